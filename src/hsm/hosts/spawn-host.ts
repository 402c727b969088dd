// Spawns the process of a token host: its arguments, environment and streams. What happens in the process is not known here.
import type { ChildProcess } from "node:child_process";
import { spawnHostProgram, takeEarlyHost } from "../../early-host.js";
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

/** What the token host itself writes to stderr; anything else comes from the library. */
const OWN_LINE = /^token host lane \d+: \w+$/m;

/**
 * Spawns a token host with a stream for each of its lanes, after those of standard input, output and error; the first one
 * may have been spawned already. If there is no process, the child emits "error".
 */
export function spawnHost({ entry, env, user, sessions }: HostProcessOptions, log: Log): ChildProcess {
  const program = { entry, args: userArguments(user), env, lanes: sessions };
  const child = takeEarlyHost(program) ?? spawnHostProgram(program);
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
