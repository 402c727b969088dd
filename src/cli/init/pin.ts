// The PIN for `kms-pkcs11 init`: from the terminal without echo or from standard input, never from the command line. For a
// systemd credential, systemd-creds(1) reads it on standard input and encrypts it.
import { spawnSync } from "node:child_process";
import { checkPin, MAX_PIN_BYTES } from "../../config/read-pin.js";
import { KmsError } from "../../errors.js";
import { readHidden } from "../read-hidden.js";

/** Including the line break. */
const LINE_BYTES = MAX_PIN_BYTES + 2;
const TOOL = "systemd-creds";

/**
 * Returns what the PIN file has to contain, for the caller to zero.
 * @throws KmsError PIN_UNREADABLE, CANCELLED, INPUT_INVALID, CONFIG_INVALID if it cannot be encrypted
 */
export async function pinFileContent(token: string, isEncrypted: boolean): Promise<Buffer> {
  const kind = process.stdin.isTTY ? "terminal" : "stdin";
  const pin = checkPin(await readHidden(`User PIN of token ${token}: `, LINE_BYTES, "no PIN was written"), {
    kind,
  });
  if (!isEncrypted) return pin;
  try {
    return encrypt(pin);
  } finally {
    pin.fill(0);
  }
}

function encrypt(pin: Buffer): Buffer {
  // The unit reads the credential under this name.
  const args = ["encrypt", "--name=pin", "-", "-"];
  const { error, status, stdout, stderr } = spawnSync(TOOL, args, {
    input: pin,
    stdio: ["pipe", "pipe", "pipe"],
  });
  if (error === undefined && status === 0 && stdout.length > 0) return stdout;
  const why =
    error?.message ?? (stderr.toString().trim().split("\n").at(-1) || `exit code ${status ?? "none"}`);
  throw new KmsError(
    "CONFIG_INVALID",
    `${TOOL} cannot encrypt the PIN (${why}); install systemd 250 or newer, or give pin: file`,
    error,
  );
}
