// Why a vendor's library may fail to initialise: most read a configuration file that an environment variable names, and
// report no more than CKR_GENERAL_ERROR if this user cannot read it.
import { accessSync, constants } from "node:fs";

/** Variables that every process has. Their paths may be missing without harm. */
const OF_EVERY_PROCESS: ReadonlySet<string> = new Set(["HOME", "OLDPWD", "PWD", "SHELL", "TMPDIR", "_"]);

/**
 * Describes the user of this process and the environment variables that name a path which it cannot read, such as "uid
 * 10001, which cannot read the path in SOFTHSM2_CONF (EACCES)". Never repeats a variable's value: it may be a secret.
 */
export function describeUser(env: NodeJS.ProcessEnv = process.env): string {
  const unreadable = Object.entries(env).flatMap(([name, value = ""]) => {
    if (OF_EVERY_PROCESS.has(name) || !/^\/[^:\s]*$/u.test(value)) return [];
    const code = reasonUnreadable(value);
    return code === undefined ? [] : [`the path in ${name} (${code})`];
  });
  const user = `uid ${process.getuid?.() ?? "unknown"}`;
  return unreadable.length === 0 ? user : `${user}, which cannot read ${unreadable.join(" and ")}`;
}

function reasonUnreadable(path: string): string | undefined {
  try {
    accessSync(path, constants.R_OK);
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? "unreadable";
  }
}
