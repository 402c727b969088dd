// Compares the JSON of commands with the schemas that are published for it: every test that runs a command with
// `--output json` thereby tests the schemas too. Takes them from the build, which loads faster.

import { createRequire } from "node:module";
import { isDeepStrictEqual } from "node:util";

import type * as ByCommand from "../../src/cli/output-schema/by-command.js";
import type * as Failure from "../../src/cli/failure.js";

const DIST = new URL("../../dist/cli/", import.meta.url);
const require = createRequire(import.meta.url);
const load = (name: string): unknown => require(new URL(name, DIST).pathname);

/** As in exit-code.ts: a negative result, and a command that was interrupted after it had done something. */
const MAY_BE_A_RESULT = [1, 130];

interface Output {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Throws if the JSON of a command that was run to its end has a field that its schema lacks, or lacks one. */
export function checkJsonOutput(args: readonly string[], { code, stdout, stderr }: Output): void {
  const { asksForJson } = load("failure.js") as typeof Failure;
  if (!asksForJson(args) || args.some((one) => ["--help", "-h", "help", "__complete"].includes(one))) return;
  const name = commandOf(args);
  const hasResult = stdout.trim() !== "";
  if (hasResult) requireMatch(name, stdout);
  const saysEnough = hasResult && MAY_BE_A_RESULT.includes(code ?? 0);
  if (code !== 0 && code !== null && !saysEnough) {
    requireMatch("error", stderr.trimEnd().split("\n").at(-1) ?? "");
  }
}

function commandOf(args: readonly string[]): string {
  const { OUTPUT_SCHEMAS, WITHOUT_SCHEMA } = load("output-schema/by-command.js") as typeof ByCommand;
  const words = args.filter(
    (arg, at) => !arg.startsWith("-") && !["-o", "--output"].includes(args[at - 1] ?? ""),
  );
  const withFlag = Object.keys(OUTPUT_SCHEMAS).filter((name) => {
    const flag = /--\S+/.exec(name)?.[0];
    return flag !== undefined && args.some((arg) => arg === flag || arg.startsWith(`${flag}=`));
  });
  const special = withFlag.find((name) => words.join(" ").startsWith(name.replace(/ --.*/, "")));
  if (special !== undefined) return special;
  const known = [...Object.keys(OUTPUT_SCHEMAS), ...Object.keys(WITHOUT_SCHEMA)];
  return (
    known.find((name) => isDeepStrictEqual(words.slice(0, name.split(" ").length), name.split(" "))) ?? ""
  );
}

function requireMatch(name: string, text: string): void {
  const { OUTPUT_SCHEMAS, WITHOUT_SCHEMA } = load("output-schema/by-command.js") as typeof ByCommand;
  if (name in WITHOUT_SCHEMA) return;
  const schema = OUTPUT_SCHEMAS[name];
  if (schema === undefined) throw new Error(`no schema describes this output of '${name}': ${text}`);
  const value: unknown = JSON.parse(text);
  const parsed = schema.safeParse(value);
  if (!parsed.success) {
    throw new Error(`the output of '${name}' differs from its schema: ${parsed.error.message}`);
  }
  if (!isDeepStrictEqual(parsed.data, value)) {
    throw new Error(
      `the output of '${name}' has fields that its schema lacks: ${text}\nthe schema keeps ${JSON.stringify(parsed.data, null, 2)}`,
    );
  }
}
