// Finds what comes next in a command line that is being typed: a command, an option, or the value of one. Reads the same
// commands as the help.
import type { Argument, Command, Option } from "commander";

/** Where the cursor is. */
export interface Position {
  readonly command: Command;
  /** The option or argument whose value is being typed; undefined if the command takes none here. */
  readonly value: Option | Argument | undefined;
  /** Whether an earlier word should name a command and names none. */
  readonly isLost: boolean;
  /** What precedes the value in the same word, such as "--config=". */
  readonly prefix: string;
  /** Options that were given before, by their long flags, with their values. */
  readonly given: ReadonlyMap<string, string>;
  /** Whether an option may be typed here. */
  readonly takesOption: boolean;
}

/** Returns the position after the words before the cursor. @param current the word at the cursor, up to the cursor */
export function positionOf(program: Command, words: readonly string[], current: string): Position {
  let command = program;
  let waiting: Option | undefined;
  let ended = false;
  let values = 0;
  const given = new Map<string, string>();
  for (const word of words) {
    if (waiting !== undefined) {
      given.set(flagOf(waiting), word);
      waiting = undefined;
    } else if (word === "--" && !ended) ended = true;
    else if (word.startsWith("-") && word !== "-" && !ended) {
      const [flag, value] = splitFlag(word);
      const option = findOption(command, flag);
      if (option === undefined) continue;
      if (takesValue(option) && value === undefined) waiting = option;
      else given.set(flagOf(option), value ?? "");
    } else {
      const inner = values === 0 ? command.commands.find((one) => one.name() === word) : undefined;
      if (inner === undefined) values += 1;
      else command = inner;
    }
  }
  const position = {
    command,
    given,
    prefix: "",
    isLost: values > 0 && command.commands.length > 0,
    takesOption: !ended && waiting === undefined,
  };
  if (waiting !== undefined) return { ...position, value: waiting };
  const [flag, start] = splitFlag(current);
  const option = start !== undefined && !ended ? findOption(command, flag) : undefined;
  if (option !== undefined) return { ...position, value: option, prefix: `${flag}=`, takesOption: false };
  const { registeredArguments } = command;
  const last = registeredArguments.at(-1);
  return { ...position, value: registeredArguments[values] ?? (last?.variadic === true ? last : undefined) };
}

/** Returns whether an option is followed by a value. */
export function takesValue({ required, optional }: Option): boolean {
  return required || optional;
}

/** Returns an option's long flag, or its only one. */
export function flagOf({ long, short }: Option): string {
  return long ?? short ?? "";
}

function findOption(command: Command, flag: string): Option | undefined {
  return command.options.find(({ short, long }) => flag === short || flag === long);
}

/** Splits "--flag=value". */
function splitFlag(word: string): [flag: string, value?: string] {
  const at = word.startsWith("--") ? word.indexOf("=") : -1;
  return at < 0 ? [word] : [word.slice(0, at), word.slice(at + 1)];
}
