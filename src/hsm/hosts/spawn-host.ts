// Spawns the process of a token host: its arguments, environment and streams. What happens in the process is not known here.
import { spawn, type ChildProcess } from "node:child_process";
import type { Log } from "../../log.js";
import type { OpenRequest } from "../wire-calls.js";
import { userArguments, type HostUser } from "../wire-user.js";

/** How to start a token host and open its token. */
export interface HostProcessOptions {
  /** The compiled entry file of the token host. */
  readonly entry: string;
  /** The environment for vendor libraries, without any PIN. */
  readonly env: NodeJS.ProcessEnv;
  /** The user whom it acts as; undefined for that of this process. */
  readonly user?: HostUser | undefined;
  /** Read whenever a lane is opened; `HostPool.setKeks` replaces the names of the KEKs in it. */
  readonly open: OpenRequest;
  /** Largest number of lanes, each a thread and a session. */
  readonly sessions: number;
}

/**
 * A token host keeps little: fewer threads, and collections before the heap reaches 16 MB, as it otherwise would. This saves
 * about 15 MB for a host under load, at the same processor time.
 */
const SMALL = [
  "--max-semi-space-size=1",
  "--initial-old-space-size=6",
  "--heap-growing-percent=30",
  "--single-threaded-gc",
  "--v8-pool-size=1",
];
/** What the token host itself writes to stderr; anything else comes from the library. */
const OWN_LINE = /^token host lane \d+: \w+$/m;

/**
 * Spawns a token host with a stream for each of its lanes, after those of standard input, output and error. If there is no
 * process, the child emits "error".
 */
export function spawnHost(options: HostProcessOptions, log: Log): ChildProcess {
  const child = spawn(process.execPath, [...SMALL, options.entry, ...userArguments(options.user)], {
    env: { ...options.env, ...shimVariables(options.open) },
    stdio: ["pipe", "ignore", "pipe", ...Array.from({ length: options.sessions }, () => "pipe" as const)],
  });
  child.stdin?.on("error", () => undefined);
  child.stderr?.on("data", (chunk: Buffer) => {
    logStderr(chunk, child.pid, log);
  });
  return child;
}

/** Libraries may trace their arguments, including the PIN, so only the size of their output is logged. */
function logStderr(chunk: Buffer, pid: number | undefined, log: Log): void {
  const said = OWN_LINE.exec(chunk.toString("latin1"))?.[0];
  log.debug({ pid, bytes: chunk.length, said }, "token host wrote to stderr");
  chunk.fill(0);
}

/** Returns what src/token-host/module-shim.c reads. */
function shimVariables({ modulePath, moduleEntry }: OpenRequest): NodeJS.ProcessEnv {
  return { KMS_PKCS11_MODULE: modulePath, KMS_PKCS11_MODULE_ENTRY: moduleEntry };
}
