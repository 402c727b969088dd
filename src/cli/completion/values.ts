// Which values an option or argument takes, by its placeholder in the help.
import type { Argument, Option } from "commander";
import type { Candidate, KeySource } from "./key-candidates.js";

/** What a shell offers: names of files, folders or users, or only the values that were printed. */
export type Kind = "files" | "folders" | "users" | "values";

const KINDS: Readonly<Record<string, Kind>> = {
  file: "files",
  path: "files",
  endpoint: "files",
  program: "files",
  dir: "folders",
  folder: "folders",
  user: "users",
};

/** The operator must type a confirmation; completing it would defeat its purpose. */
const CONFIRMATIONS = ["--i-understand-data-is-lost", "--every-node-has-left"];

/** Returns what a shell offers for the value of an option or argument, apart from `valuesOf`. */
export function kindOf(value: Option | Argument): Kind {
  return KINDS[placeholderOf(value)] ?? "values";
}

/** Returns the values that an option or argument takes; none if it takes any text. */
export async function valuesOf(value: Option | Argument, source: KeySource): Promise<Candidate[]> {
  if (value.argChoices !== undefined) return value.argChoices.map((one) => ({ value: one, description: "" }));
  const flag = "long" in value ? value.long : undefined;
  if (placeholderOf(value) === "key_id" && !CONFIRMATIONS.includes(flag ?? "")) {
    const { keyCandidates } = await import("./key-candidates.js");
    return keyCandidates(value.description, source);
  }
  return flag === undefined ? [] : settingValues(flag);
}

/** Returns the values of the setting that a flag overrides. */
async function settingValues(flag: string): Promise<Candidate[]> {
  if (!["--mode", "--mechanism", "--log-level"].includes(flag)) return [];
  const { LOG_LEVELS, MECHANISM_SETTINGS, MODES } = await import("../../config/schema.js");
  const values = { "--mode": MODES, "--mechanism": MECHANISM_SETTINGS, "--log-level": LOG_LEVELS };
  return (values[flag as keyof typeof values] as readonly string[]).map((value) => ({
    value,
    description: "",
  }));
}

function placeholderOf(value: Option | Argument): string {
  if ("flags" in value) return /[<[]([^>\]]+)[>\]]/u.exec(value.flags)?.[1] ?? "";
  return value.name();
}
