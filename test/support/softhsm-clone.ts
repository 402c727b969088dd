// A clone of a SoftHSM token, as vendors' cloning makes it: a second token with its own label and serial number that
// holds the same KEK values. SoftHSM encrypts objects under a key of the token, which the clone shares.

import { copyFileSync, cpSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import type { SoftHsm } from "./softhsm.js";
import type { TestToken } from "./token.js";

const LABEL_BYTES = 32;
const SERIAL = /[0-9a-f]{16}(?=\0{4}\x80\0SK)/;

export class SoftHsmClone implements TestToken {
  readonly modulePath: string;
  readonly pin: string;
  readonly pinFile: string;
  readonly env: Readonly<Record<string, string>>;
  readonly label: string;
  readonly #from: string;
  readonly #folder: string;

  constructor(original: SoftHsm, label: string) {
    ({ modulePath: this.modulePath, pin: this.pin, pinFile: this.pinFile, env: this.env } = original);
    this.label = label;
    const tokens = join(original.folder, "tokens");
    this.#from = folderOf(tokens, original.label);
    this.#folder = join(tokens, label);
    cpSync(this.#from, this.#folder, { recursive: true });
    rename(join(this.#folder, "token.object"), original.label, label);
  }

  /** Copies the keys that the original holds and this clone lacks. */
  sync(): void {
    const own = readdirSync(this.#folder);
    for (const file of readdirSync(this.#from)) {
      if (!own.includes(file)) copyFileSync(join(this.#from, file), join(this.#folder, file));
    }
    // Makes running libraries read the folder again.
    copyFileSync(join(this.#from, "generation"), join(this.#folder, "generation"));
  }

  remove(): void {
    // Removing the original removes the clone.
  }
}

/** Returns the folder of the token with this label, under SoftHSM's `tokens`. */
export function folderOf(tokens: string, label: string): string {
  const found = readdirSync(tokens).find((name) =>
    readFileSync(join(tokens, name, "token.object")).includes(label.padEnd(LABEL_BYTES)),
  );
  if (found === undefined) throw new Error(`no token is labelled ${label}`);
  return join(tokens, found);
}

function rename(file: string, from: string, to: string): void {
  const text = readFileSync(file, "latin1");
  const serial = SERIAL.exec(text)?.[0];
  if (serial === undefined) throw new Error(`${file} holds no serial number`);
  const other = Buffer.from(to.padEnd(8).slice(0, 8)).toString("hex");
  writeFileSync(
    file,
    text.replace(from.padEnd(LABEL_BYTES), to.padEnd(LABEL_BYTES)).replace(serial, other),
    "latin1",
  );
}
