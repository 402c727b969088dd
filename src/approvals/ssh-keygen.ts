// Has ssh-keygen sign bytes on the approver's machine, with a key in a file, in an agent or on a security key. It asks for
// a passphrase, PIN or touch itself; this program never sees a private key. What it returns is verified before it is used.
import { spawnSync } from "node:child_process";
import { KmsError } from "../errors.js";
import { NAMESPACE, verifySignature } from "./ssh-signature.js";

/** Longest output that is read, in bytes. */
const MAX_OUTPUT = 64 * 1024;

/**
 * Returns an armoured signature over a message.
 * @param identity path of a private key, or of a public key whose private key is in the agent
 * @throws KmsError CONFIG_INVALID if ssh-keygen cannot sign; NOT_APPROVED if its signature is not accepted here
 */
export function signWithSshKeygen(identity: string, message: Uint8Array): string {
  // An identity that begins with a dash must not become an option.
  const path = identity.startsWith("-") ? `./${identity}` : identity;
  const args = ["-Y", "sign", "-n", NAMESPACE, "-f", path];
  const { status, stdout, error } = spawnSync("ssh-keygen", args, {
    input: message,
    stdio: ["pipe", "pipe", "inherit"],
    maxBuffer: MAX_OUTPUT,
  });
  if (error !== undefined || status !== 0) {
    const reason = error?.message ?? `exit code ${status}`;
    throw new KmsError(
      "CONFIG_INVALID",
      `ssh-keygen -Y sign failed: ${reason}; it requires OpenSSH 8.2 or later`,
      error,
    );
  }
  const signature = stdout.toString("latin1");
  verifySignature(signature, message);
  return signature;
}
