// Whether plugins still hold the PIN of a token, before a command replaces it: each of them would try the earlier PIN at its
// next login, which costs a PIN attempt.
import { endpointOf } from "../config/node-address.js";
import { KmsError } from "../errors.js";
import { readNodeText } from "./node-client.js";

/** What /readyz reports for a plugin that holds no PIN: it was locked, or has not been unlocked since its start. */
const HOLDS_NO_PIN = /^locked by an operator |no PIN is held/;

/** Returns a line for each node that may hold a PIN. Never throws. */
export async function nodesWithPin(nodes: readonly URL[]): Promise<string[]> {
  const found = await Promise.all(
    nodes.map(async (node) => {
      try {
        const { text } = await readNodeText(endpointOf(node, "readyz"));
        return HOLDS_NO_PIN.test(text)
          ? []
          : [`${node.href} is not locked: run kms-pkcs11 lock on that node`];
      } catch (error) {
        const { message } = KmsError.from(error);
        return [`${message}; start its plugin and lock it, or leave the node out of --nodes if it is off`];
      }
    }),
  );
  return found.flat();
}
