// Reads a secret from a terminal without echo, or from standard input to its end. Returns it in one buffer, which the
// caller zeroes; a string cannot be zeroed.
import { KmsError } from "../errors.js";
import { liveLine } from "./live-line.js";

const ENTER = [0x0a, 0x0d];
const ERASE = [0x08, 0x7f];
const CONTROL_C = 0x03;
const CONTROL_D = 0x04;
const CONTROL_U = 0x15;
/** The first byte of a UTF-8 character: not 10xxxxxx (RFC 3629 section 3). */
const isFirstByte = (byte: number): boolean => (byte & 0xc0) !== 0x80;

/**
 * Reads up to `maxBytes`. Standard input stays open, for example for another prompt.
 * @param cancelled what is unchanged after Ctrl-C, for the error
 * @param mayEnd whether Ctrl-D alone counts as Enter alone, as at the end of a list, instead of Ctrl-C
 * @throws KmsError CANCELLED after Ctrl-C; INPUT_INVALID if the input is longer, from a terminal after the whole line
 */
export function readHidden(
  prompt: string,
  maxBytes: number,
  cancelled: string,
  mayEnd = false,
): Promise<Buffer> {
  return liveLine.during(() => readLine(prompt, new HiddenLine(maxBytes, cancelled, mayEnd)));
}

async function readLine(prompt: string, line: HiddenLine): Promise<Buffer> {
  const { stdin, stderr } = process;
  const isTerminal = stdin.isTTY;
  if (isTerminal) {
    // Turns echo off before the prompt, so that nothing typed after it is shown.
    stdin.setRawMode(true);
    stderr.write(prompt);
  }
  try {
    await readChunks(stdin, (chunk) => (isTerminal ? line.type(chunk) : line.append(chunk)));
    return line.take();
  } finally {
    line.zero();
    if (isTerminal) {
      stdin.setRawMode(false);
      stderr.write("\n");
    }
    stdin.pause();
  }
}

/** Passes chunks to `take` until it returns true or the stream ends. Leaves the stream open. */
function readChunks(stream: NodeJS.ReadStream, take: (chunk: Buffer) => boolean): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    const end = (error?: Error): void => {
      stream.off("data", onData).off("end", end).off("error", end);
      if (error === undefined) resolve();
      else reject(error);
    };
    const onData = (chunk: Buffer): void => {
      try {
        if (take(chunk)) end();
      } catch (error) {
        end(error as Error);
      } finally {
        chunk.fill(0);
      }
    };
    stream.on("data", onData).on("end", end).on("error", end).resume();
  });
}

class HiddenLine {
  readonly #bytes: Buffer;
  readonly #cancelled: string;
  readonly #mayEnd: boolean;
  #length = 0;
  #isTooLong = false;

  constructor(maxBytes: number, cancelled: string, mayEnd: boolean) {
    this.#bytes = Buffer.alloc(maxBytes);
    this.#cancelled = cancelled;
    this.#mayEnd = mayEnd;
  }

  append(chunk: Buffer): boolean {
    for (const byte of chunk) this.#add(byte);
    this.#requireShort();
    return false;
  }

  /** Adds typed bytes and obeys the editing keys. Returns whether the line has ended. */
  type(chunk: Buffer): boolean {
    for (const byte of chunk) {
      const cancels = byte === CONTROL_D && this.#length === 0 && !this.#mayEnd;
      if (byte === CONTROL_C || cancels) throw new KmsError("CANCELLED", `cancelled; ${this.#cancelled}`);
      if (ENTER.includes(byte) || byte === CONTROL_D) {
        // Not before: the shell would show and run the rest of the line.
        this.#requireShort();
        return true;
      }
      if (byte === CONTROL_U) this.#clear();
      else if (ERASE.includes(byte)) this.#erase();
      else this.#add(byte);
    }
    return false;
  }

  #clear(): void {
    this.#length = 0;
    this.#isTooLong = false;
  }

  take(): Buffer {
    return Buffer.from(this.#bytes.subarray(0, this.#length));
  }

  zero(): void {
    this.#bytes.fill(0);
  }

  #add(byte: number): void {
    if (this.#length < this.#bytes.length) this.#bytes[this.#length++] = byte;
    else this.#isTooLong = true;
  }

  #requireShort(): void {
    if (this.#isTooLong) throw new KmsError("INPUT_INVALID", "the input is too long");
  }

  /** Removes the last character, which may have several bytes. */
  #erase(): void {
    while (this.#length > 0 && !isFirstByte(this.#bytes[--this.#length] ?? 0));
  }
}
