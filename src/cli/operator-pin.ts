// A PIN that the operator supplies to a command: on standard input with --pin-stdin, or on the terminal if the
// configured source is for the running plugin only, or there is none. Prompts once, even if the token is opened several
// times.
import { correctPin, describePinSource, type PinSource } from "../config/pin-source.js";
import { checkPin, MAX_PIN_BYTES } from "../config/read-pin.js";
import type { Settings, TokenSettings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import { OperatorPin } from "../hsm/login/operator-pin.js";
import { readHidden } from "./read-hidden.js";

type OperatorSource = PinSource & { readonly kind: "stdin" | "terminal" };

/** Including the line break. */
const LINE_BYTES = MAX_PIN_BYTES + 2;
const NO_PIN = "no PIN was entered";
const LINE_FEED = 0x0a;

const held = new WeakMap<TokenSettings, OperatorPin>();

/** Returns whether a command takes this PIN from its operator before it opens the token. */
export function isSupplied({ pin }: TokenSettings): boolean {
  return pin.kind === "stdin" || (pin.kind === "unlock" && process.stdin.isTTY);
}

/** Returns whether to prompt for a PIN if the token requires one and no source is configured. */
export function canBeAsked({ pin }: TokenSettings): boolean {
  return pin.kind === "none" && process.stdin.isTTY;
}

/**
 * Returns the PIN that the operator supplies; undefined if the configured source applies.
 * @throws KmsError PIN_UNREADABLE, CANCELLED, INPUT_INVALID
 */
export async function suppliedPin(
  settings: Settings,
  token: TokenSettings,
): Promise<OperatorPin | undefined> {
  const before = held.get(token);
  if (before !== undefined || !isSupplied(token)) return before;
  if (process.stdin.isTTY) return askForPin(token);
  await takeStandardInput(settings.tokens);
  return held.get(token);
}

/** Prompts on the terminal without echo. @throws KmsError PIN_UNREADABLE, CANCELLED, INPUT_INVALID */
export async function askForPin(token: TokenSettings): Promise<OperatorPin> {
  const { token: label, serial, object } = token.uri;
  const name = label ?? serial ?? object;
  return hold(token, { kind: "terminal" }, await readHidden(`PIN of token ${name}: `, LINE_BYTES, NO_PIN));
}

/** Reads one line for all tokens, or one for each in the order of the configuration. */
async function takeStandardInput(tokens: readonly TokenSettings[]): Promise<void> {
  const bytes = await readHidden("", tokens.length * LINE_BYTES, NO_PIN);
  try {
    const lines = tokens.length === 1 ? [bytes] : splitLines(bytes);
    if (lines.length > 1 && lines.length !== tokens.length) {
      const counts = `${lines.length} lines for ${tokens.length} tokens`;
      throw new KmsError(
        "INPUT_INVALID",
        `standard input holds ${counts}; give one PIN for all of them, or one line for each`,
      );
    }
    for (const [index, token] of tokens.entries()) {
      hold(token, { kind: "stdin" }, Buffer.from(lines[index] ?? lines[0] ?? ""));
    }
  } finally {
    bytes.fill(0);
  }
}

/** Returns views of the lines, including their line breaks. */
function splitLines(bytes: Buffer): Buffer[] {
  const lines: Buffer[] = [];
  for (let from = 0; from < bytes.length;) {
    const end = bytes.indexOf(LINE_FEED, from);
    const to = end < 0 ? bytes.length : end + 1;
    lines.push(bytes.subarray(from, to));
    from = to;
  }
  return lines;
}

/** @param bytes are zeroed */
function hold(token: TokenSettings, source: OperatorSource, bytes: Buffer): OperatorPin {
  const description = describePinSource(source);
  const correction = correctPin(source);
  const pin = new OperatorPin({
    description,
    correction,
    missing: `the PIN from ${description} was refused`,
  });
  pin.offer(checkPin(bytes, source));
  held.set(token, pin);
  process.once("exit", () => {
    pin.forget();
  });
  return pin;
}
