// The JSON Schema of the configuration file, for editors and CI, derived from the schema that the plugin itself uses.
// It cannot say everything that `config validate` checks, such as which settings exclude each other.
import { z } from "zod";
import { OPTIONS, type OptionMeta } from "./option.js";
import { documentSchema } from "./schema.js";

/** Hours, minutes, seconds and milliseconds in this order, each at most once. */
const DURATION = "^(?=.)([0-9]+h)?([0-9]+m(?!s))?([0-9]+s)?([0-9]+ms)?$";

type JsonSchema = z.core.JSONSchema.BaseSchema;

/** Returns the JSON Schema (draft-07, which editors support best). */
export function configurationJsonSchema(): JsonSchema {
  const { $schema, ...schema } = z.toJSONSchema(documentSchema, {
    target: "draft-7",
    io: "input",
    override: ({ zodSchema, jsonSchema }) => {
      const meta = OPTIONS.get(zodSchema);
      if (meta !== undefined) describe(jsonSchema, meta);
      // The default of a section says nothing: each of its settings has its own.
      else delete jsonSchema.default;
    },
  });
  const required = (schema.required ?? []).filter((name) => name !== "keys");
  // The KEK is named for the plugin, or for each of its clusters.
  const either = { oneOf: [{ required: ["keys"] }, { required: ["clusters"] }] };
  return { $schema, title: "Configuration of kms-pkcs11", ...schema, required, ...either } as JsonSchema;
}

function describe(schema: JsonSchema, { kind, range, description }: OptionMeta): void {
  const isObvious = kind === "choice" || kind === "flag";
  schema.description = isObvious ? plain(description) : `${plain(description)}. Give ${range}.`;
  if (kind === "duration") schema.pattern = DURATION;
}

/** Editors show the description as text. */
function plain(markdown: string): string {
  return markdown.replaceAll("`", "'");
}
