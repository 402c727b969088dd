// The kinds of option that the schema consists of. The registry OPTIONS holds for each option what the configuration
// table and the error messages need: its purpose, its range, and whether a message may repeat its value.
import { z } from "zod";
import { KmsError } from "../errors.js";
import { parseDuration } from "./duration.js";
import { truncate } from "../untrusted-text.js";

export interface OptionMeta {
  readonly kind: "duration" | "integer" | "choice" | "flag" | "text" | "list";
  /** The accepted values, in words that may follow "give". */
  readonly range: string;
  /** What the option does. */
  readonly description: string;
  /** The value may be or contain a secret, so messages never repeat it. */
  readonly secret?: boolean;
  /** The option has no default and may be omitted. */
  readonly optional?: boolean;
}

export const OPTIONS = z.registry<OptionMeta>();

interface Why {
  readonly why: string;
}

/** Returns the schema of a duration, written like "1h30m" and read as milliseconds. */
export function duration(option: Why & { least: string; most: string; preset: string }) {
  const [least = 0, most = 0] = [option.least, option.most].map(parseDuration);
  const range = `${option.least} to ${option.most}`;
  const schema = z.string().transform((text, context) => {
    const ms = parseDuration(text);
    if (ms !== undefined && ms >= least && ms <= most) return ms;
    const problem = ms === undefined ? "which is not a duration" : "which is out of range";
    context.addIssue(`is ${quote(text)}, ${problem}; give ${range}, such as ${option.preset}`);
    return z.NEVER;
  });
  return schema
    .prefault(option.preset)
    .register(OPTIONS, { kind: "duration", range, description: option.why });
}

/** Returns the schema of a whole number between `least` and `most`, both included. */
export function integer(option: Why & { least: number; most: number; preset: number }) {
  const range = `a whole number from ${option.least} to ${option.most}`;
  const schema = z.int().min(option.least).max(option.most);
  return schema.default(option.preset).register(OPTIONS, { kind: "integer", range, description: option.why });
}

/** Returns the schema of a whole number that may be omitted. */
export function optionalInteger(option: Why & { least: number; most: number }) {
  const range = `a whole number from ${option.least} to ${option.most}`;
  const schema = z.int().min(option.least).max(option.most).optional();
  return schema.register(OPTIONS, { kind: "integer", range, description: option.why, optional: true });
}

/** Returns the schema of a text that must be one of a few values. */
export function choice<const Value extends string>(
  option: Why & { values: readonly Value[]; preset: NoInfer<Value> },
) {
  const schema = z.enum(option.values).prefault(option.preset);
  return schema.register(OPTIONS, {
    kind: "choice",
    range: option.values.join(", "),
    description: option.why,
  });
}

/** Returns the schema of true or false. */
export function flag(option: Why & { preset: boolean }) {
  return z
    .boolean()
    .default(option.preset)
    .register(OPTIONS, { kind: "flag", range: "true or false", description: option.why });
}

interface TextOption<Value> extends Why {
  readonly range: string;
  /** @throws KmsError CONFIG_INVALID with a message that continues the option's path */
  readonly read: (text: string) => Value;
  readonly secret?: boolean;
}

/** Returns the schema of a text that must be given. */
export function requiredText<Value>(option: TextOption<Value>) {
  return reading(option).register(OPTIONS, textMeta(option));
}

/** Returns the schema of a text that may be omitted. */
export function optionalText<Value>(option: TextOption<Value>) {
  return reading(option)
    .optional()
    .register(OPTIONS, { ...textMeta(option), optional: true });
}

/** Returns the schema of a text that has a default. */
export function presetText<Value>(option: TextOption<Value> & { preset: string }) {
  return reading(option).prefault(option.preset).register(OPTIONS, textMeta(option));
}

/** Returns the schema of a name or a number, such as a group name or a gid; `read` receives a number in decimal. */
export function optionalNameOrNumber<Value>(option: TextOption<Value>) {
  const schema = z.union([reading(option), z.int().min(0).transform(String).pipe(reading(option))]);
  return schema.optional().register(OPTIONS, { ...textMeta(option), optional: true });
}

interface ListOption extends Why {
  readonly range: string;
  /** @throws KmsError CONFIG_INVALID with a message that continues the option's path */
  readonly check?: (texts: readonly string[]) => unknown;
}

/** Returns the schema of a list of texts, which is empty by default. */
export function textList(option: ListOption) {
  const schema = z.array(z.string().min(1).max(255)).superRefine((texts, context) => {
    try {
      option.check?.(texts);
    } catch (error) {
      if (!(error instanceof KmsError)) throw error;
      context.addIssue(error.message);
    }
  });
  return schema.default([]).register(OPTIONS, { kind: "list", range: option.range, description: option.why });
}

function textMeta(option: TextOption<unknown>): OptionMeta {
  return { kind: "text", range: option.range, description: option.why, secret: option.secret ?? false };
}

function reading<Value>(option: TextOption<Value>) {
  return z.string().transform((text, context) => {
    try {
      return option.read(text);
    } catch (error) {
      if (!(error instanceof KmsError)) throw error;
      context.addIssue(error.message);
      return z.NEVER;
    }
  });
}

/** Returns a value of the configuration for a message: as JSON on one line, at most 60 characters. */
export function quote(value: unknown): string {
  return truncate(JSON.stringify(value), 60);
}
