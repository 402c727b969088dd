// The valid options of a document that has problems. With them, checks that involve several options can report their
// problems together with the schema's, so that an operator can correct everything at once.
import { z } from "zod";
import { documentSchema, type Document } from "./schema.js";
import { bare, type Schema } from "./setting-rows.js";

type Section = "socket" | "keys" | "module" | "pin" | "login" | "admin" | "audit" | "approvals";

/** An option that is invalid or not given is undefined. */
export type ValidParts = { readonly [Name in Section]?: Partial<Document[Name]> } & {
  readonly failover?: readonly Partial<Document["failover"][number]>[];
  readonly stateDir?: string;
};

/** Returns the valid options of a document. */
export function validParts(document: unknown): ValidParts {
  return read(documentSchema, document) as ValidParts;
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
