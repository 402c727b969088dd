// Says what is wrong with a command line that cannot be run, and what its author most likely meant. Loaded only for such
// a line, since it needs the names of all commands.
import type { Command } from "commander";
import { similarName } from "../config/similar-name.js";
import type { UsageError } from "./usage-error.js";

export interface UsageProblem {
  /** One clause, without a full stop. */
  readonly message: string;
  /** What was most likely meant, each in one clause. */
  readonly hints: readonly string[];
  /** The command whose help says more, such as "kms-pkcs11 keys list". */
  readonly help: string;
}

/** Hyphens and dashes of formatted text, and the minus sign. */
const FORMATTED_DASH =
  /^[\u2010-\u2015\u2212\uff0d-]*[\u2010-\u2015\u2212\uff0d][\u2010-\u2015\u2212\uff0d-]*/u;
const MOST_COMMANDS = 5;

/**
 * Describes a command line that was refused.
 * @param args the arguments of the program
 * @param program with all commands
 */
export function describeUsage(
  { command, code, message: text }: UsageError,
  args: readonly string[],
  program: Command,
): UsageProblem {
  // Commander adds its suggestion as a line of its own.
  const [message = "", suggestion = ""] = text.split("\n");
  const known = pathsOf(program);
  const help = ["kms-pkcs11", ...namesOf(command)].join(" ");
  const dashes = [...new Set(args.flatMap((arg) => formattedDash(arg) ?? []))];
  if (code === "commander.unknownCommand") {
    const words = leadingNames(command.args);
    const meant = commandsMeant([...namesOf(command), ...words], words, known);
    return { message, help, hints: [...dashes, ...didYouMean(meant)] };
  }
  if (code === "commander.excessArguments") {
    return { message: surplus(command), help, hints: dashes };
  }
  return { message, help, hints: [...dashes, ...didYouMean(optionsMeant(command, message, suggestion))] };
}

/** Returns the option that one hyphen instead of two was typed for, or those that commander finds similar. */
function optionsMeant({ options }: Command, message: string, suggestion: string): string[] {
  const typed = /^unknown option '(-\w[\w-]*)/u.exec(message)?.[1];
  const long = options.find((one) => one.long === `-${typed ?? ""}`)?.long;
  return typeof long === "string" ? [long] : (suggestion.match(/--[\w-]+/gu) ?? []);
}

/** Returns the problem of 'help' with words that name no command. */
export function describeUnknown(words: readonly string[], program: Command): UsageProblem {
  const meant = commandsMeant(words, words.slice(-1), pathsOf(program));
  return {
    message: `unknown command '${words.join(" ")}'`,
    hints: didYouMean(meant.map((path) => `help ${path}`)),
    help: "kms-pkcs11",
  };
}

function surplus(command: Command): string {
  const { registeredArguments, args } = command;
  const most = registeredArguments.length;
  const rest = args.slice(most).map((word) => `'${word}'`);
  const takes = most === 0 ? "none" : `only ${most}`;
  const noun = rest.length === 1 ? "argument" : "arguments";
  return `unexpected ${noun} ${rest.join(", ")}; '${namesOf(command).join(" ")}' takes ${takes}`;
}

/** Returns the words before the first option. */
function leadingNames(words: readonly string[]): readonly string[] {
  const end = words.findIndex((word) => word.startsWith("-"));
  return end < 0 ? words : words.slice(0, end);
}

/** Returns the names after the program's, such as ["keys", "list"]. */
function namesOf(command: Command): string[] {
  return command.parent === null ? [] : [...namesOf(command.parent), command.name()];
}

/** Returns every command and group, each by its names. */
function pathsOf(command: Command): string[][] {
  return command.commands.flatMap((inner) => [namesOf(inner), ...pathsOf(inner)]);
}

/**
 * Returns the commands that were most likely meant.
 * @param typed the names that were typed, those of the group included
 * @param words those of them that name no command here
 */
function commandsMeant(
  typed: readonly string[],
  words: readonly string[],
  known: readonly string[][],
): string[] {
  const byName = longestEnding(words, known);
  if (byName.length > 0) return byName;
  const wanted = [plain(typed.join("")), plain(typed.slice(0, 2).join(""))];
  const inAnyForm = known.filter((path) =>
    [path, path.toReversed()].some((names) => wanted.includes(plain(names.join("")))),
  );
  if (inAnyForm.length > 0) return inAnyForm.map((path) => path.join(" "));
  const group = typed.slice(0, typed.length - words.length).join(" ");
  const here = known.filter((path) => path.slice(0, -1).join(" ") === group);
  const similar = similarName(
    words[0] ?? "",
    here.map((path) => path.at(-1) ?? ""),
  );
  if (similar !== undefined) return [`${group} ${similar}`.trim()];
  const anywhere = similarName(
    words[0] ?? "",
    known.map((path) => path.at(-1) ?? ""),
  );
  return anywhere === undefined ? [] : longestEnding([anywhere], known);
}

/** Returns the commands whose names end with as many of the words as possible: "policy sign" is "approvals policy sign". */
function longestEnding(words: readonly string[], known: readonly string[][]): string[] {
  for (let length = Math.min(words.length, 3); length > 0; length--) {
    const wanted = plain(words.slice(0, length).join(" "));
    const found = known.filter((path) => plain(path.slice(-length).join(" ")) === wanted);
    if (found.length > 0) return found.map((path) => path.join(" "));
  }
  return [];
}

function plain(name: string): string {
  return name.toLowerCase().replace(/[-_:./]/gu, "");
}

function didYouMean(meant: readonly string[]): string[] {
  if (meant.length === 0) return [];
  const quoted = meant.slice(0, MOST_COMMANDS).map((one) => `'${one}'`);
  return [`did you mean ${quoted.join(" or ")}?`];
}

function formattedDash(arg: string): string | undefined {
  const dash = FORMATTED_DASH.exec(arg)?.[0];
  if (dash === undefined || arg.length === dash.length) return undefined;
  const rest = arg.slice(dash.length);
  const plainForm = `${/^\p{L}(?:=|$)/u.test(rest) ? "-" : "--"}${rest}`;
  return `'${arg}' begins with a dash of formatted text; type '${plainForm}' with hyphens`;
}
