// What can be read of a document that has problems: every option on its own. Checks that concern several
// options can then tell their problems along with the schema's, instead of one round of corrections later.
import { z } from "zod";
import { documentSchema, type Document } from "./schema.js";
import { bare, type Schema } from "./setting-rows.js";

type Section = "socket" | "keys" | "module" | "pin" | "audit";

/** Undefined stands for what cannot be read and for what is not given. */
export type Salvaged = { readonly [Name in Section]?: Partial<Document[Name]> } & {
  readonly failover?: readonly Partial<Document["failover"][number]>[];
  readonly stateDir?: string;
};

export function salvage(document: unknown): Salvaged {
  return read(documentSchema, document) as Salvaged;
}

function read(schema: Schema, value: unknown): unknown {
  const inner = bare(schema);
  if (inner instanceof z.ZodObject) {
    const given = typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
    const shape: Readonly<Record<string, Schema>> = inner.shape;
    return Object.fromEntries(Object.entries(shape).map(([name, child]) => [name, read(child, given[name])]));
  }
  if (inner instanceof z.ZodArray && bare(inner.element) instanceof z.ZodObject) {
    return Array.isArray(value) ? value.map((entry: unknown) => read(inner.element, entry)) : [];
  }
  return z.safeParse(schema, value).data;
}
