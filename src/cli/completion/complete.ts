// Answers the shells' completion scripts (deploy/completion/), which run `kms-pkcs11 __complete WORD...` with the words
// before the cursor and the word at the cursor. Prints one candidate per line, with a tab before its description. The
// last line says which names the shell adds: ":files", ":folders", ":users" or ":values". Prints no error, since the
// line is still being typed.
import type { Command } from "commander";
import { flagOf, positionOf, takesValue, type Position } from "./position.js";
import type { Candidate } from "./key-candidates.js";
import { kindOf, valuesOf, type Kind } from "./values.js";

export interface Completion {
  readonly candidates: readonly Candidate[];
  readonly kind: Kind;
}

/** Loads the commands that the words name. */
export type ProgramLoader = (words: readonly string[]) => Promise<Command>;

/** Prints the candidates for the last of the words. */
export async function printCompletion(words: readonly string[], load: ProgramLoader): Promise<void> {
  const { candidates, kind } = await complete(words, load).catch(() => NOTHING);
  const lines = candidates.map(({ value, description }) =>
    description === "" ? value : `${value}\t${description}`,
  );
  process.stdout.write(`${[...lines, `:${kind}`].join("\n")}\n`);
}

const NOTHING: Completion = { candidates: [], kind: "values" };

/** Returns the candidates for the last of the words. */
export async function complete(words: readonly string[], load: ProgramLoader): Promise<Completion> {
  const before = words.slice(0, -1);
  const current = words.at(-1) ?? "";
  const [first, ...named] = before;
  const isHelp = first === "help";
  const position = positionOf(await load(isHelp ? named : before), isHelp ? named : before, current);
  const { candidates, kind } = isHelp
    ? { candidates: commandsOf(position.command), kind: "values" as const }
    : await candidatesAt(position, current);
  return { candidates: candidates.filter(({ value }) => value.startsWith(current)), kind };
}

async function candidatesAt(position: Position, current: string): Promise<Completion> {
  const { command, value, prefix, given, isLost, takesOption } = position;
  if (isLost) return NOTHING;
  if (takesOption && current.startsWith("-")) return { candidates: optionsOf(position), kind: "values" };
  if (value !== undefined) {
    const values = await valuesOf(value, {
      config: given.get("--config"),
      nodes: given.get("--nodes"),
      cluster: given.get("--cluster"),
    });
    return {
      candidates: values.map((one) => ({ ...one, value: `${prefix}${one.value}` })),
      kind: kindOf(value),
    };
  }
  if (command.commands.length === 0) {
    return { candidates: takesOption ? optionsOf(position) : [], kind: "values" };
  }
  const help = command.parent === null ? [{ value: "help", description: "display help for a command" }] : [];
  return { candidates: [...commandsOf(command), ...help], kind: "values" };
}

function commandsOf({ commands }: Command): Candidate[] {
  return commands.map((command) => ({
    value: command.name(),
    description: firstClause(command.description()),
  }));
}

/** Options that were given are left out, unless they may be repeated. */
function optionsOf({ command, given }: Position): Candidate[] {
  const options = command.options.filter(
    (option) => !option.hidden && (!given.has(flagOf(option)) || isRepeatable(option)),
  );
  return options.map((option) => ({ value: flagOf(option), description: firstClause(option.description) }));
}

function isRepeatable(option: Command["options"][number]): boolean {
  return takesValue(option) && (option.variadic || /repeat/u.test(option.description));
}

function firstClause(description: string): string {
  return description.split(/; |: /u, 1)[0] ?? "";
}
