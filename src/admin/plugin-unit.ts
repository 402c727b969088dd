// What the plugin's systemd unit gives to the vendor's library beyond the user: variables and groups, which may be in a drop-in.
// Root's commands act as the unit's user and need them too. Asks systemd, so that it is known before the unit has started.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";

const UNIT = "kms-pkcs11.service";
const PROPERTIES = ["LoadState", "User", "SupplementaryGroups", "Environment"];
/** Exists if systemd is the machine's process 1: sd_booted(3). */
const BOOTED = "/run/systemd/system";
const TIMEOUT_MS = 5000;
/** systemd quotes a value that contains blanks. */
const WORD = /"((?:[^"\\]|\\.)*)"|\S+/g;

export interface PluginUnit {
  /** A name or a number. */
  readonly user: string;
  /** Names or numbers. */
  readonly groups: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

/** Returns the unit; undefined if this machine has none, or not systemd. */
export function pluginUnit(): PluginUnit | undefined {
  if (!existsSync(BOOTED)) return undefined;
  const args = ["show", ...PROPERTIES.map((name) => `--property=${name}`), UNIT];
  try {
    const stdio = ["ignore", "pipe", "ignore"] as const;
    return parseUnit(
      execFileSync("systemctl", args, { encoding: "utf8", timeout: TIMEOUT_MS, stdio: [...stdio] }),
    );
  } catch {
    return undefined;
  }
}

/** Reads the output of `systemctl show`. */
export function parseUnit(shown: string): PluginUnit | undefined {
  const property = (name: string): string => new RegExp(`^${name}=(.*)$`, "m").exec(shown)?.[1] ?? "";
  if (property("LoadState") !== "loaded" || property("User") === "") return undefined;
  const assignments = wordsOf(property("Environment")).map((word) => {
    const at = word.indexOf("=");
    return [word.slice(0, at), word.slice(at + 1)];
  });
  return {
    user: property("User"),
    groups: wordsOf(property("SupplementaryGroups")),
    environment: Object.fromEntries(assignments) as Record<string, string>,
  };
}

function wordsOf(text: string): string[] {
  return [...text.matchAll(WORD)].map(([word, quoted]) => quoted?.replace(/\\(.)/g, "$1") ?? word);
}
