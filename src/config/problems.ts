// What is wrong with a configuration, in the words an operator needs: where, what, and the value that would
// be right. Turns zod's issues into such lines by the schema's own ranges. Values that may be secrets are
// never repeated.
import { z } from "zod";
import { nearest } from "./nearest.js";
import { quote } from "./option.js";
import { namesAt, optionAt, settingRows, type Option } from "./setting-rows.js";

export type SettingPath = readonly PropertyKey[];

export interface Problem {
  readonly at: SettingPath;
  /** "what is wrong; what would be right" */
  readonly text: string;
}

/** Looking for a similar name for each of very many unknown names would take minutes. */
const MAX_EXPLAINED = 100;

/** Collects problems. What follows from a problem that is known already is not told again. */
export class Problems {
  #known: readonly Problem[] = [];

  add(...problems: readonly Problem[]): void {
    this.addAll(problems);
  }

  addAll(problems: readonly Problem[]): void {
    this.#known = this.#known.concat(problems);
  }

  /** Whether anything at or below one of the paths is wrong. */
  concern(...paths: readonly SettingPath[]): boolean {
    return this.#known.some(({ at }) =>
      paths.some((path) => path.every((step, index) => at[index] === step)),
    );
  }

  /** @param names what to call a setting that came from a flag, by its dotted path */
  lines(names: ReadonlyMap<string, string>): string[] {
    return this.#known.map(({ at, text }) => {
      const dotted = showPath(at);
      return `${names.get(dotted) ?? dotted}: ${text}`;
    });
  }
}

/** Returns a path as `failover[0].uri`. */
function showPath(path: SettingPath): string {
  const text = path.reduce<string>(
    (shown, step) => (typeof step === "number" ? `${shown}[${step}]` : `${shown}.${showName(step)}`),
    "",
  );
  return text.replace(/^\./, "") || "configuration";
}

function showName(name: PropertyKey): string {
  const text = String(name);
  return /^[\w-]{1,40}$/.test(text) ? text : quote(text);
}

/** @param document what was checked */
export function problemsOf(issue: z.core.$ZodIssue, document: unknown): Problem[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((name, at) =>
      at < MAX_EXPLAINED
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
  // Somebody may have written the PIN where its source's name belongs.
  if (section.at(-1) === "pin") {
    return { at: section, text: `holds an unknown setting; give one of ${known.join(", ")}` };
  }
  const elsewhere = settingRows().find(({ path }) => path.endsWith(`.${name}`))?.path;
  const meant = nearest(name, known) ?? elsewhere;
  const right = meant === undefined ? `known here are ${known.join(", ")}` : `did you mean ${meant}?`;
  return { at: [...section, name], text: `is not a setting; ${right}` };
}

function wrongSection(issue: z.core.$ZodIssue, value: unknown): string {
  const names = namesAt(issue.path);
  if (issue.code === "too_big") return `has too many entries; give at most ${issue.maximum}`;
  return `${nameKind(value)}; give ${names.length === 0 ? "a list" : `a mapping with ${names.join(", ")}`}`;
}

function wrongValue({ meta, schema }: Option, value: unknown): string {
  const showable = meta.secret !== true && ["string", "number", "boolean"].includes(typeof value);
  const right = meta.kind === "duration" && typeof value === "number" ? withUnit(schema, value) : undefined;
  if (right !== undefined) return `is ${quote(value)} without a unit; give ${right}`;
  return `${showable ? `is ${quote(value)}` : nameKind(value)}; give ${meta.range}`;
}

/** Returns what the number may have meant. */
function withUnit(schema: Option["schema"], value: number): string | undefined {
  const meant = ["s", "ms", "m"].map((unit) => `${value}${unit}`);
  const right = meant.filter((text) => z.safeParse(schema, text).success);
  return right.length === 0 ? undefined : right.join(" or ");
}

function nameKind(value: unknown): string {
  if (value === undefined) return "is missing";
  if (value === null) return "is empty";
  if (Array.isArray(value)) return "is a list";
  return typeof value === "object"
    ? "is a mapping"
    : `is a ${typeof value === "string" ? "text" : typeof value}`;
}

function valueAt(document: unknown, path: SettingPath): unknown {
  return path.reduce<unknown>(
    (value, step) =>
      typeof value === "object" && value !== null ? (value as Record<PropertyKey, unknown>)[step] : undefined,
    document,
  );
}
