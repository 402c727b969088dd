// What the schemas of commands' JSON output have in common. A schema describes what `--output json` prints; commands import
// only its type, so none loads zod for it. Published in deploy/reference/output/: a field is never removed, renamed or given
// another type within a major version.
import { z } from "zod";

/** The type of a value that a schema describes, for a command that prints it. */
export type Printed<Schema extends z.ZodType> = Frozen<z.output<Schema>>;

type Frozen<T> = T extends readonly (infer Item)[]
  ? readonly Frozen<Item>[]
  : T extends object
    ? { readonly [Name in keyof T]: Frozen<T[Name]> }
    : T;

export const instant = z.iso.datetime().describe("an instant in UTC (ISO 8601)");
export const count = z.int().min(0);
export const verdict = z.enum(["ok", "warn", "fail"]);

/** What an operator does after a command that changes something. */
export const next = z
  .string()
  .nullable()
  .describe("what to do next; null if nothing was changed, or if the error that follows says it");
