// The published JSON Schemas of commands' JSON output, and their fields as a flat list, by which a later version is compared
// with what has been published.

import { z } from "zod";

import { OUTPUT_SCHEMAS } from "../../src/cli/output-schema/by-command.js";

type JsonSchema = z.core.JSONSchema.BaseSchema;

/** Returns the name of the file that describes an output. */
export const schemaFile = (name: string): string => `${name.replaceAll(/[ -]+/g, "-")}.schema.json`;

/** Returns the JSON Schema of each output, by its name. */
export function outputSchemas(): Map<string, JsonSchema> {
  return new Map(Object.entries(OUTPUT_SCHEMAS).map(([name, schema]) => [name, published(name, schema)]));
}

/** New fields may be added, so no schema forbids them. */
function published(name: string, schema: z.ZodType): JsonSchema {
  const { $schema, ...body } = z.toJSONSchema(schema, {
    io: "input",
    override: ({ jsonSchema }) => {
      if (jsonSchema.additionalProperties === false) delete jsonSchema.additionalProperties;
      // The format and the type say the same.
      if (jsonSchema.format !== undefined) delete jsonSchema.pattern;
      if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
    },
  });
  const title = name === "error" ? "Error of kms-pkcs11" : `Output of kms-pkcs11 ${name} --output json`;
  return { $schema, title, ...body } as JsonSchema;
}

/**
 * Returns the type of each field and each value of an enumeration, such as `keys[].label: "string"`. A field that may be
 * absent has the type "absent" too.
 */
export function fieldsOf(schema: JsonSchema): Record<string, string> {
  const types = new Map<string, Set<string>>();
  collect(schema, "", types);
  return Object.fromEntries([...types].map(([path, found]) => [path, [...found].sort().join("|")]));
}

function collect(schema: JsonSchema, path: string, types: Map<string, Set<string>>): void {
  const add = (at: string, type: string): void => {
    types.set(at, (types.get(at) ?? new Set()).add(type));
  };
  const alternatives = schema.anyOf ?? schema.oneOf;
  for (const one of alternatives ?? []) collect(one, path, types);
  const values = schema.const === undefined ? (schema.enum ?? []) : [schema.const];
  for (const value of values) add(`${path}=${JSON.stringify(value)}`, "value");
  if (alternatives === undefined) for (const type of typesOf(schema)) add(path, type);
  if (schema.items !== undefined) collect(schema.items as JsonSchema, `${path}[]`, types);
  if (typeof schema.additionalProperties === "object") {
    collect(schema.additionalProperties, `${path}{}`, types);
  }
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    const at = path === "" ? name : `${path}.${name}`;
    collect(property as JsonSchema, at, types);
    if (schema.required?.includes(name) !== true) add(at, "absent");
  }
}

function typesOf({ type, format, contentEncoding }: JsonSchema): string[] {
  const detail = format ?? contentEncoding;
  return [type ?? "any"]
    .flat()
    .map((one) => `${one}${detail === undefined || one === "null" ? "" : `(${detail})`}`);
}
