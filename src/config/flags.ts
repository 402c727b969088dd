// Applies the command line's flags to the configuration document before it is checked, so that flags and file pass the
// same checks.
import { resolve } from "node:path";

/** Each flag overrides one setting of the file. */
export interface Flags {
  readonly key?: string | undefined;
  /** A relative path is resolved against the working directory. */
  readonly socket?: string | undefined;
  readonly mode?: string | undefined;
  readonly http?: string | undefined;
  /** A relative path is resolved against the working directory. */
  readonly stateDir?: string | undefined;
  readonly moduleParams?: string | undefined;
  readonly mechanism?: string | undefined;
  readonly logLevel?: string | undefined;
}

const OVERRIDES: Readonly<
  Record<keyof Flags, { readonly flag: string; readonly path: readonly [string, string?] }>
> = {
  key: { flag: "--key", path: ["keys", "uri"] },
  socket: { flag: "--socket", path: ["socket", "path"] },
  mode: { flag: "--mode", path: ["mode"] },
  http: { flag: "--http", path: ["http", "address"] },
  stateDir: { flag: "--state-dir", path: ["stateDir"] },
  moduleParams: { flag: "--module-params", path: ["module", "parameters"] },
  mechanism: { flag: "--mechanism", path: ["mechanism"] },
  logLevel: { flag: "--log-level", path: ["log", "level"] },
};

export interface Overlaid {
  readonly document: unknown;
  /** For messages: the flag by the dotted path of the setting that it overrides. */
  readonly names: ReadonlyMap<string, string>;
}

/**
 * Returns a copy of the document with the flags applied. Leaves it to the schema to report a section that is not a
 * mapping.
 */
export function overlayFlags(document: unknown, flags: Flags): Overlaid {
  const names = new Map<string, string>();
  if (!isMapping(document)) return { document, names };
  const result: Record<string, unknown> = { ...document };
  for (const [name, { flag, path }] of Object.entries(OVERRIDES)) {
    const value = flags[name as keyof Flags];
    if (value === undefined) continue;
    const [section, setting] = path;
    const before = result[section] ?? {};
    if (setting === undefined) result[section] = absolute(name, value);
    else if (isMapping(before)) result[section] = { ...before, [setting]: absolute(name, value) };
    names.set(path.join("."), flag);
  }
  return { document: result, names };
}

function absolute(name: string, value: string): string {
  const isRelative = name === "stateDir" || (name === "socket" && !/^(unix:|@)/.test(value));
  return isRelative && value !== "" && !value.endsWith("/") ? resolve(value) : value;
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
