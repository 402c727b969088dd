// The limits on open files: what to do when one is reached (open(2): EMFILE, ENFILE), and whether this process's own limit
// (RLIMIT_NOFILE, getrlimit(2)) is too low. With a low limit, a command would fail at an unpredictable point, and a plugin
// would start without being able to start a token host.
import { readFileSync } from "node:fs";

/** A command needs fewer than 64; the plugin with its connections needs more. */
const LEAST_OPEN_FILES = 128;

const RAISE_LIMIT = "raise the limit: ulimit -n 1024, or LimitNOFILE=1024 in the systemd unit";

/** Returns what to do if this process may open too few files; undefined if it may open enough, or if /proc is missing. */
export function fileLimitTooLow(): string | undefined {
  try {
    const limit = /^Max open files +(\d+)/mu.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
    if (limit === undefined || Number(limit) >= LEAST_OPEN_FILES) return undefined;
    return `only ${limit} files may be open at once, and at least ${LEAST_OPEN_FILES} are needed; ${RAISE_LIMIT}`;
  } catch {
    return undefined;
  }
}

/** Returns what to do if no more files can be opened, by the error or one of its causes; undefined for other errors. */
export function fileLimitIn(error: unknown): string | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    const { code } = at as NodeJS.ErrnoException;
    if (code === "EMFILE") {
      return `too many open files (EMFILE); ${RAISE_LIMIT}`;
    }
    if (code === "ENFILE") {
      return "the system has too many open files (ENFILE); raise fs.file-max with sysctl";
    }
  }
  return undefined;
}
