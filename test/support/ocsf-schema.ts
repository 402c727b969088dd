// Validates events against an excerpt of the OCSF schema, as the schema's own server does: required attributes, unknown ones,
// types, enumerated values, and constraints of objects.

import { readFileSync } from "node:fs";

interface Attribute {
  readonly requirement: "required" | "recommended" | "optional";
  readonly type: string;
  readonly is_array?: true;
  readonly object_type?: string;
  readonly enum?: Readonly<Record<string, string>>;
  /** The attribute with the value's name; for the value 99 (Other) it has to be present. */
  readonly sibling?: string;
}

interface Definition {
  readonly uid?: number;
  readonly attributes: Readonly<Record<string, Attribute>>;
  readonly constraints?: { readonly at_least_one?: readonly string[] };
}

interface Schema {
  readonly version: string;
  readonly classes: Readonly<Record<string, Definition>>;
  readonly objects: Readonly<Record<string, Definition>>;
}

type Json = Readonly<Record<string, unknown>>;

const schema = JSON.parse(
  readFileSync(new URL("../audit/sinks/ocsf-schema.json", import.meta.url), "utf8"),
) as Schema;

const WHOLE = Number.isSafeInteger;
const isText = (value: unknown): boolean => typeof value === "string";
const TYPES: Readonly<Record<string, (value: unknown) => boolean>> = {
  string_t: isText,
  hostname_t: isText,
  username_t: isText,
  resource_uid_t: isText,
  integer_t: WHOLE,
  long_t: WHOLE,
  timestamp_t: WHOLE,
};
/** 99, whose meaning the sibling says. */
const OTHER = 99;

/** Returns what is wrong with an event; nothing if it is valid. */
export function ocsfProblems(event: Json): string[] {
  const found = Object.values(schema.classes).find(({ uid }) => uid === event["class_uid"]);
  if (found === undefined) return [`class_uid: ${String(event["class_uid"])} is no class`];
  const { metadata } = event as { metadata?: { version?: unknown } };
  const type = Number(event["class_uid"]) * 100 + Number(event["activity_id"]);
  return [
    ...problemsOf(event, found, ""),
    ...(event["type_uid"] === type ? [] : [`type_uid: is not ${type}`]),
    ...(metadata?.version === schema.version ? [] : [`metadata.version: is not ${schema.version}`]),
  ];
}

/** Returns the recommended attributes that an event does not have, of its class and its objects. */
export function ocsfOmissions(event: Json): string[] {
  const found = Object.values(schema.classes).find(({ uid }) => uid === event["class_uid"]);
  return found === undefined ? [] : omissionsOf(event, found, "");
}

function problemsOf(value: Json, { attributes, constraints }: Definition, path: string): string[] {
  const required = Object.entries(attributes).filter(([, { requirement }]) => requirement === "required");
  const oneOf = constraints?.at_least_one ?? [];
  return [
    ...required.filter(([name]) => !(name in value)).map(([name]) => `${path}${name}: is required`),
    ...(oneOf.length === 0 || oneOf.some((name) => name in value)
      ? []
      : [`${path}: needs one of ${oneOf.join(", ")}`]),
    ...Object.entries(value).flatMap(([name, held]) => {
      const attribute = attributes[name];
      if (attribute === undefined) return [`${path}${name}: is unknown`];
      // The type of class 0 with the activity 99 is 99, too.
      const sibling = name === "type_uid" ? [] : siblingProblem(held, attribute, value, path);
      return [...valueProblems(held, attribute, path + name), ...sibling];
    }),
  ];
}

function valueProblems(held: unknown, attribute: Attribute, path: string): string[] {
  if (attribute.is_array === true) {
    if (!Array.isArray(held)) return [`${path}: is not an array`];
    return held.flatMap((one: unknown, at) => elementProblems(one, attribute, `${path}.${at}`));
  }
  return elementProblems(held, attribute, path);
}

function elementProblems(held: unknown, attribute: Attribute, path: string): string[] {
  const { type, object_type: object } = attribute;
  if (type === "object_t") {
    if (typeof held !== "object" || held === null || Array.isArray(held)) {
      return [`${path}: is not an object`];
    }
    // The generic object, of any attributes.
    if (object === "object") return [];
    const definition = schema.objects[object ?? ""];
    if (definition === undefined) return [`${path}: its type ${String(object)} is not in the excerpt`];
    return problemsOf(held as Json, definition, `${path}.`);
  }
  if (TYPES[type]?.(held) !== true) return [`${path}: is no ${type}`];
  if (attribute.enum !== undefined && !(String(held) in attribute.enum)) {
    return [`${path}: ${String(held)} is not a value of the enumeration`];
  }
  return [];
}

function siblingProblem(
  held: unknown,
  { sibling, ...attribute }: Attribute,
  of: Json,
  path: string,
): string[] {
  const name = sibling === undefined ? undefined : of[sibling];
  if (sibling === undefined || (name === undefined && held !== OTHER)) return [];
  if (typeof name !== "string") return [`${path}${sibling}: is required beside the value 99`];
  const caption = attribute.enum?.[String(held)];
  return held === OTHER || name === caption ? [] : [`${path}${sibling}: is not "${String(caption)}"`];
}

function omissionsOf(value: Json, { attributes }: Definition, path: string): string[] {
  return Object.entries(attributes).flatMap(([name, { requirement, type, object_type: object }]) => {
    const held = value[name];
    if (held === undefined) return requirement === "recommended" ? [path + name] : [];
    const definition = schema.objects[object ?? ""];
    if (type !== "object_t" || definition === undefined) return [];
    return [held].flat().flatMap((one) => omissionsOf(one as Json, definition, `${path}${name}.`));
  });
}
