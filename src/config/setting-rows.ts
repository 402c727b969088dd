// The configuration table, derived from the schema: one row per option, in the document's order. Also walks the schema,
// for messages about a faulty document.
import { z } from "zod";
import { OPTIONS, type OptionMeta } from "./option.js";
import { documentSchema } from "./schema.js";

export interface SettingRow {
  /** Such as `hsm.requestTimeout` or `failover[].uri`. */
  readonly path: string;
  /** In YAML; "required" or "none" if there is no default. */
  readonly default: string;
  readonly range: string;
  readonly description: string;
}

export type Schema = z.core.$ZodType;

export interface Option {
  readonly path: string;
  readonly schema: Schema;
  readonly meta: OptionMeta;
}

/** Returns a row for every option of the configuration. */
export function settingRows(): SettingRow[] {
  return OPTIONS_IN_ORDER.map(({ path, schema, meta }) => ({
    path,
    default: defaultOf(schema, meta),
    range: meta.range,
    description: meta.description,
  }));
}

/** Returns the option at a path of a document, or the list that contains it; list indices in the path are numbers. */
export function optionAt(path: readonly PropertyKey[]): Option | undefined {
  const wanted = rowPath(path);
  return OPTIONS_IN_ORDER.find(({ path: known }) => known === wanted || `${known}[]` === wanted);
}

/** Returns the names of the settings in a section; empty if the path does not lead to a section. */
export function namesAt(path: readonly PropertyKey[]): string[] {
  let schema: Schema = bare(documentSchema);
  for (const step of path) {
    if (schema instanceof z.ZodObject && typeof step === "string") {
      schema = bare((schema.shape as Shape)[step] ?? z.never());
    } else if (schema instanceof z.ZodArray) schema = bare(schema.element);
  }
  return schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
}

type Shape = Readonly<Record<string, Schema>>;

function rowPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>(
    (text, step) =>
      typeof step === "number" ? `${text}[]` : text === "" ? String(step) : `${text}.${String(step)}`,
    "",
  );
}

function* options(schema: Schema, path: string): Generator<Option> {
  const meta = OPTIONS.get(schema);
  if (meta !== undefined) yield { path, schema, meta };
  const inner = bare(schema);
  if (inner instanceof z.ZodArray && meta === undefined) yield* options(inner.element, `${path}[]`);
  if (!(inner instanceof z.ZodObject)) return;
  const shape: Shape = inner.shape;
  for (const [name, child] of Object.entries(shape)) {
    yield* options(child, path === "" ? name : `${path}.${name}`);
  }
}

/** Every option, in the document's order. */
export const OPTIONS_IN_ORDER: readonly Option[] = [...options(documentSchema, "")];

/**
 * Returns the path of every setting of a document with this many failover tokens and no clusters, in the document's
 * order; the steps are names, and indices of list entries.
 */
export function settingPaths(failovers: number): (readonly (string | number)[])[] {
  const paths = OPTIONS_IN_ORDER.map(({ path }) => path.split(".")).filter(
    ([first]) => first !== "clusters[]",
  );
  const perToken = paths.filter(([section]) => section === "failover[]");
  return paths.flatMap((path) => {
    if (path[0] !== "failover[]") return [path];
    if (path !== perToken[0]) return [];
    return Array.from({ length: failovers }, (_, index) =>
      perToken.map(([, ...rest]) => ["failover", index, ...rest]),
    ).flat();
  });
}

/** Returns the schema without the wrappers that give a default. */
export function bare(schema: Schema): Schema {
  if (schema instanceof z.ZodPrefault || schema instanceof z.ZodDefault || schema instanceof z.ZodOptional) {
    return bare(schema.def.innerType);
  }
  return schema;
}

function defaultOf(schema: Schema, meta: OptionMeta): string {
  const preset = presetOf(schema);
  if (preset !== undefined) return typeof preset === "string" ? preset : JSON.stringify(preset);
  return meta.optional === true ? "none" : "required";
}

/** Returns the default of an option as it would be written; undefined if it has none. */
export function presetOf(schema: Schema): unknown {
  return schema instanceof z.ZodPrefault || schema instanceof z.ZodDefault
    ? schema.def.defaultValue
    : undefined;
}
