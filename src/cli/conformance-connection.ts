// The connections that the rules of the contract use: KMS v2 clients that return errors as values.
import type { Answer, Connection, Plugin } from "../conformance/rule.js";
import { KmsError } from "../errors.js";
import { answeredStatus, KmsClient } from "../kms-client/kms-client.js";

const UID = "conformance";
/** Longer than any rule allows, so that a slow answer is reported as slow and not as missing. */
const TIMEOUT_MS = 10_000;

/** Returns the plugin on a socket, for the rules. */
export function pluginAt(socket: string): Plugin {
  return {
    socketPath: socket.replace(/^unix:(?:\/\/)?/, ""),
    connect: (authority) => connectionOf(new KmsClient(socket, TIMEOUT_MS, authority)),
  };
}

function connectionOf(client: KmsClient): Connection {
  return {
    status: () => answerOf(() => client.status()),
    encrypt: (plaintext, timeoutMs) => answerOf(() => client.encrypt(plaintext, UID, timeoutMs)),
    decrypt: (sealed) => answerOf(() => client.decrypt(sealed, UID)),
    close: () => {
      client.close();
    },
  };
}

async function answerOf<T>(call: () => Promise<T>): Promise<Answer<T>> {
  const startedAt = performance.now();
  const ms = (): number => performance.now() - startedAt;
  try {
    const value = await call();
    return { value, ms: ms() };
  } catch (error) {
    const { name, text } = answeredStatus(error) ?? {
      name: "UNAVAILABLE",
      text: KmsError.from(error).message,
    };
    return { refused: name, text, ms: ms() };
  }
}
