// Takes shares from custodians: on a terminal one after the other without echo, or from standard input, one on each
// line. A share is never in an argument or in the environment.
import { MAX_INPUT_BYTES, MAX_SHARES, parseShare, type Share } from "../../custody/share.js";
import { KmsError } from "../../errors.js";
import { readHidden } from "../read-hidden.js";

const LINE_FEED = 0x0a;
/** Shares are entered before a command changes anything. */
const PIN_KEPT = "the token keeps its PIN";

/** A share, or why it cannot be read. `entry` counts from 1. */
export type Entered =
  | { readonly entry: number; readonly share: Share }
  | { readonly entry: number; readonly share: undefined; readonly problem: string };

/** Yields shares until an empty line or the end of the input. @throws KmsError CANCELLED, INPUT_INVALID */
export async function* enterShares(): AsyncGenerator<Entered> {
  if (!process.stdin.isTTY) {
    yield* fromLines(await readHidden("", 2 * MAX_SHARES * MAX_INPUT_BYTES, PIN_KEPT));
    return;
  }
  for (let entry = 1; ; entry++) {
    const line = await readHidden(`Share ${entry} (Enter alone ends): `, MAX_INPUT_BYTES, PIN_KEPT, true);
    if (isBlank(line)) return;
    yield read(entry, line);
  }
}

function* fromLines(bytes: Buffer): Generator<Entered> {
  try {
    let entry = 0;
    for (let from = 0; from < bytes.length;) {
      const end = bytes.indexOf(LINE_FEED, from);
      const to = end < 0 ? bytes.length : end;
      const line = bytes.subarray(from, to);
      from = to + 1;
      if (!isBlank(line)) yield read(++entry, line);
    }
  } finally {
    bytes.fill(0);
  }
}

function isBlank(line: Buffer): boolean {
  return line.every((byte) => byte <= 0x20);
}

function read(entry: number, line: Buffer): Entered {
  try {
    return { entry, share: parseShare(line) };
  } catch (error) {
    return { entry, share: undefined, problem: KmsError.from(error).message };
  }
}
