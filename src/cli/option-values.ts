// Refuses values of options that nobody means: an empty one, as from a variable that is not set; quotation marks and
// invisible characters from a formatted page; a list in two parts. The commands' own checks would report them as something
// else, or use the last part silently.
import type { EventEmitter } from "node:events";
import type { Command, Option } from "commander";

/** What the flags of an option that takes a list end with. */
const LIST = /(?:,\.\.\.|<list)>$/u;
/** Options whose empty value means something. */
const MAY_BE_EMPTY = new Set(["--module-params", "--prefix", "--etcd-prefix"]);

/** Quotation marks of formatted text, which a shell passes on. */
const FORMATTED_QUOTE = /^[\u2018-\u201f\u00ab\u00bb`]|[\u2018-\u201f\u00ab\u00bb]$/u;
/** Line breaks, no-break spaces and characters without width, at an end. */
const INVISIBLE_END =
  /^[\r\n\u00a0\u2028\u2029\u200b-\u200f\u2060\ufeff]|[\r\n\u00a0\u2028\u2029\u200b-\u200f\u2060\ufeff]$/u;

/** Has a command, and every command in it, check the values of its options before it uses them. */
export function checkOptionValues(command: Command): void {
  command.commands.forEach(checkOptionValues);
  // Commander 14 extends EventEmitter, of which its types show `on` only.
  const emitter = command as unknown as EventEmitter;
  for (const option of command.options) {
    if (!option.required) continue;
    const given: string[] = [];
    // Before commander's own listener, which refuses a value that is not one of an option's choices.
    emitter.prependListener(`option:${option.name()}`, (value: string | undefined) => {
      const problem = problemOf(command, option, value ?? "", given);
      if (problem !== undefined) command.error(`error: ${problem}`, { code: "kms-pkcs11.optionValue" });
      given.push(value ?? "");
    });
  }
}

function problemOf(
  command: Command,
  option: Option,
  value: string,
  given: readonly string[],
): string | undefined {
  const flag = option.long ?? option.flags;
  return (
    shortFormProblem(command, option, value) ??
    textProblem(flag, value) ??
    repetitionProblem(flag, option.flags, value, given)
  );
}

/** Finds "-config FILE", which is read as "-c onfig", and "-o=json", which is read as the value "=json". */
function shortFormProblem({ options }: Command, { short, long }: Option, value: string): string | undefined {
  if (short === undefined || long === undefined) return undefined;
  const name = `${short.slice(1)}${value.replace(/=.*/su, "")}`;
  if (options.some((one) => one.long === `--${name}`)) {
    return `'-${name}' begins with one hyphen; write --${name}`;
  }
  return value.startsWith("=") ? `write '${short} ${value.slice(1)}' or '${long}${value}'` : undefined;
}

function textProblem(flag: string, value: string): string | undefined {
  if (value === "" && !MAY_BE_EMPTY.has(flag)) {
    return `${flag} has an empty value; check the variable or the quotes that it comes from`;
  }
  if (FORMATTED_QUOTE.test(value)) {
    return `the value of ${flag} has a quotation mark of formatted text; type ' or " in the shell instead`;
  }
  return INVISIBLE_END.test(value)
    ? `the value of ${flag} begins or ends with a line break or an invisible character; remove it`
    : undefined;
}

/** For other options the last value counts, as usual; for a list, that would leave out what was named first. */
function repetitionProblem(
  flag: string,
  flags: string,
  value: string,
  given: readonly string[],
): string | undefined {
  if (!LIST.test(flags) || given.every((one) => one === value)) return undefined;
  return `${flag} is given twice; give it once, with commas between its values`;
}
