// The problems of a configuration as messages for an operator: the setting, what is wrong, and a valid value. Takes the
// valid values from the schema. Never repeats a value that may be a secret.
import { z } from "zod";
import { quote } from "./option.js";
import { namesAt, optionAt, settingRows, type Option } from "./setting-rows.js";
import { similarName } from "./similar-name.js";

export type SettingPath = readonly PropertyKey[];

export interface Problem {
  readonly at: SettingPath;
  /** "<what is wrong>; <what to do>" */
  readonly text: string;
}

/** Finding a similar name for each of very many unknown names would take minutes. */
const MAX_SUGGESTIONS = 100;

/** Collects problems, and answers which settings have one, so that a consequence is not reported as well. */
export class Problems {
  #known: readonly Problem[] = [];

  add(...problems: readonly Problem[]): void {
    this.addAll(problems);
  }

  addAll(problems: readonly Problem[]): void {
    this.#known = this.#known.concat(problems);
  }

  /** Returns whether there is a problem at or below one of the paths. */
  concern(...paths: readonly SettingPath[]): boolean {
    return this.#known.some(({ at }) =>
      paths.some((path) => path.every((step, index) => at[index] === step)),
    );
  }

  /**
   * Returns one line per problem: "<name>: <what is wrong>; <what to do>".
   * @param nameOf returns what to call a setting: its flag, or its path with the position in the file
   */
  lines(nameOf: (at: SettingPath) => string): string[] {
    return this.#known.map(({ at, text }) => `${nameOf(at)}: ${text}`);
  }
}

/** Returns a path as `failover[0].uri`. */
export function showPath(path: SettingPath): string {
  const text = path.reduce<string>(
    (before, step) => (typeof step === "number" ? `${before}[${step}]` : `${before}.${showName(step)}`),
    "",
  );
  return text.replace(/^\./, "") || "configuration";
}

function showName(name: PropertyKey): string {
  const text = String(name);
  return /^[\w-]{1,40}$/.test(text) ? text : quote(text);
}

/**
 * Returns the problems that an issue of the schema stands for.
 * @param document the document that was checked
 */
export function problemsOf(issue: z.core.$ZodIssue, document: unknown): Problem[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((name, at) =>
      at < MAX_SUGGESTIONS
        ? unknownSetting(issue.path, name)
        : { at: [...issue.path, name], text: "is not a setting" },
    );
  }
  if (issue.code === "custom") return [{ at: issue.path, text: issue.message }];
  const value = valueAt(document, issue.path);
  const option = optionAt(issue.path);
  return [
    { at: issue.path, text: option === undefined ? wrongSection(issue, value) : wrongValue(option, value) },
  ];
}

function unknownSetting(section: SettingPath, name: string): Problem {
  const known = namesAt(section);
  // The unknown name may be a PIN, written in place of its source.
  if (section.at(-1) === "pin") {
    return { at: section, text: `holds an unknown setting; give one of ${known.join(", ")}` };
  }
  const elsewhere = settingRows().find(({ path }) => path.endsWith(`.${name}`))?.path;
  const similar = similarName(name, known) ?? elsewhere;
  const hint = similar === undefined ? `give one of ${known.join(", ")}` : `did you mean ${similar}?`;
  return { at: [...section, name], text: `is not a setting; ${hint}` };
}

function wrongSection(issue: z.core.$ZodIssue, value: unknown): string {
  const names = namesAt(issue.path);
  if (issue.code === "too_big") return `has too many entries; give at most ${issue.maximum}`;
  return `${nameKind(value)}; give ${names.length === 0 ? "a list" : `a mapping with ${names.join(", ")}`}`;
}

function wrongValue({ meta, schema }: Option, value: unknown): string {
  const showable = meta.secret !== true && ["string", "number", "boolean"].includes(typeof value);
  const valid = meta.kind === "duration" && typeof value === "number" ? withUnit(schema, value) : undefined;
  if (valid !== undefined) return `is ${quote(value)} without a unit; give ${valid}`;
  return `${showable ? `is ${quote(value)}` : nameKind(value)}; give ${meta.range}`;
}

/** Returns the valid durations that the number may stand for; undefined if there are none. */
function withUnit(schema: Option["schema"], value: number): string | undefined {
  const durations = ["s", "ms", "m"].map((unit) => `${value}${unit}`);
  const valid = durations.filter((text) => z.safeParse(schema, text).success);
  return valid.length === 0 ? undefined : valid.join(" or ");
}

function nameKind(value: unknown): string {
  if (value === undefined) return "is missing";
  if (value === null) return "is empty";
  if (Array.isArray(value)) return "is a list";
  return typeof value === "object"
    ? "is a mapping"
    : `is a ${typeof value === "string" ? "text" : typeof value}`;
}

/** Returns the value at a path of a document; undefined if there is none. */
export function valueAt(document: unknown, path: SettingPath): unknown {
  return path.reduce<unknown>(
    (value, step) =>
      typeof value === "object" && value !== null ? (value as Record<PropertyKey, unknown>)[step] : undefined,
    document,
  );
}
