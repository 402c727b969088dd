// Reads a secret: from a terminal without showing it, otherwise from standard input to its end. It is in one buffer,
// which the caller zeroes; a string could not be.
import { MAX_PIN_BYTES } from "../config/pin-source.js";
import { KmsError } from "../errors.js";

/** With its line break. */
const MAX_BYTES = MAX_PIN_BYTES + 2;
const ENTER = [0x0a, 0x0d];
const ERASE = [0x08, 0x7f];
const CONTROL_C = 0x03;
const CONTROL_D = 0x04;
const CONTROL_U = 0x15;
/** The first byte of a UTF-8 character: not 10xxxxxx (RFC 3629 section 3). */
const isFirstByte = (byte: number): boolean => (byte & 0xc0) !== 0x80;

/** @throws KmsError CANCELLED by Ctrl-C; INPUT_INVALID when there is too much of it */
export async function readHidden(prompt: string): Promise<Buffer> {
  const { stdin, stderr } = process;
  const line = new HiddenLine();
  if (stdin.isTTY) {
    stderr.write(prompt);
    stdin.setRawMode(true);
  }
  try {
    for await (const chunk of stdin as AsyncIterable<Buffer>) {
      const done = stdin.isTTY ? line.type(chunk) : line.append(chunk);
      chunk.fill(0);
      if (done) break;
    }
    return line.take();
  } finally {
    line.wipe();
    if (stdin.isTTY) {
      stdin.setRawMode(false);
      stderr.write("\n");
    }
    stdin.pause();
  }
}

class HiddenLine {
  readonly #bytes = Buffer.alloc(MAX_BYTES);
  #length = 0;

  append(chunk: Buffer): boolean {
    for (const byte of chunk) this.#add(byte);
    return false;
  }

  /** What was typed, keys that edit included. Returns whether the line has ended. */
  type(chunk: Buffer): boolean {
    for (const byte of chunk) {
      if (byte === CONTROL_C) throw new KmsError("CANCELLED", "nothing was handed over");
      if (ENTER.includes(byte) || byte === CONTROL_D) return true;
      if (byte === CONTROL_U) this.#length = 0;
      else if (ERASE.includes(byte)) this.#erase();
      else this.#add(byte);
    }
    return false;
  }

  take(): Buffer {
    return Buffer.from(this.#bytes.subarray(0, this.#length));
  }

  wipe(): void {
    this.#bytes.fill(0);
  }

  #add(byte: number): void {
    if (this.#length === MAX_BYTES) throw new KmsError("INPUT_INVALID", "this is too long for a PIN");
    this.#bytes[this.#length++] = byte;
  }

  /** One character, which may have several bytes. */
  #erase(): void {
    while (this.#length > 0 && !isFirstByte(this.#bytes[--this.#length] ?? 0));
  }
}
