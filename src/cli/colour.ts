// Colours for what an operator looks for in a command's output: states, verdicts, and the words that begin a warning or an
// error. Works on whole lines whose control characters have been escaped, so text from others can at most look like a state.
import { styleText } from "node:util";

type Colour = "green" | "yellow" | "red" | "cyan" | "gray";

const WORDS: Readonly<Record<string, Colour>> = {
  ok: "green",
  pass: "green",
  ready: "green",
  active: "green",
  done: "green",
  accepted: "green",
  warn: "yellow",
  standby: "yellow",
  due: "yellow",
  missing: "yellow",
  unknown: "yellow",
  "not needed": "gray",
  retired: "gray",
  skipped: "gray",
  fail: "red",
  failed: "red",
  failing: "red",
  refused: "red",
  unreachable: "red",
};

/** What begins a line of text, with its colon. */
const PREFIXES: Readonly<Record<string, Colour>> = {
  "kms-pkcs11": "red",
  warning: "yellow",
  differs: "yellow",
  next: "cyan",
};

const words = Object.keys(WORDS).join("|");
/** A state is a cell of its own: the first of a line, or the value beside its name. */
const STATE = new RegExp(`^((?:(?:STATE|RESULT|VERDICT|healthz) +)?)(${words})(?= {2,}|$)`, "gmu");
const PREFIX = new RegExp(`^(${Object.keys(PREFIXES).join("|")})(?=: )`, "gmu");

/** Returns the text with colours. */
export function coloured(text: string): string {
  return text
    .replace(STATE, (_all, name: string, word: string) => name + paint(WORDS[word], word))
    .replace(PREFIX, (word) => paint(PREFIXES[word], word));
}

function paint(colour: Colour | undefined, text: string): string {
  return colour === undefined ? text : styleText(colour, text, { validateStream: false });
}

/**
 * Returns whether a stream shows colours: only a terminal does. Node.js follows NO_COLOR, FORCE_COLOR and TERM=dumb.
 */
export function showsColours(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY && stream.hasColors();
}
