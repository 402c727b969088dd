// Which settings differ between two configurations, by their meaning: "60m" and "1h" are the same.
import { formatPkcs11Uri } from "./pkcs11-uri.js";
import { showPath, valueAt } from "./problems.js";
import { settingPaths } from "./setting-rows.js";
import type { Configuration, TokenSettings } from "./settings.js";

/**
 * Returns every setting with a text that is equal for equal values; for comparisons only, since it may hold secrets. The
 * PIN source is one setting, `pin`, wherever it is given; so is the library, `module.path`.
 */
export function comparableSettings({ settings, document }: Configuration): ReadonlyMap<string, string> {
  const values = new Map<string, string>();
  for (const path of settingPaths(settings.tokens.length - 1)) {
    const [name, section] = [path.at(-1), path.at(-2)];
    const token = settings.tokens[path[0] === "failover" ? 1 + Number(path[1]) : 0];
    if (section === "pin") {
      values.set(showPath(path.slice(0, -1)), JSON.stringify(token?.pin));
    } else if (name === "uri" && token !== undefined) {
      values.set(showPath(path), identityOf(token));
    } else {
      const isLibrary = section === "module" && name === "path";
      const value = isLibrary ? token?.modulePath : valueAt(document, path);
      values.set(showPath(path), JSON.stringify(name === "keyFile" ? settings.audit?.keyFile : value));
    }
  }
  return values;
}

/** Returns the names of settings whose values differ, or that only one of them has. */
export function changedSettings(
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
): string[] {
  const names = new Set([...after.keys(), ...before.keys()]);
  return [...names].filter((name) => before.get(name) !== after.get(name));
}

/** Returns the URI without library and PIN source, which are settings of their own. */
function identityOf({ uri }: TokenSettings): string {
  const [identity = ""] = formatPkcs11Uri(uri).split("?", 1);
  return identity;
}
