// Spawns the processes of token hosts. The plugin's first one is spawned before the plugin loads its modules and its
// configuration, which takes as long as the token host takes to load its own: it makes no PKCS#11 call until the plugin
// names the library to load.
import { spawn, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";

/** The compiled entry file of the token host. */
export const TOKEN_HOST_ENTRY = fileURLToPath(new URL("token-host/main.js", import.meta.url));

/** What starts a token host's process, and cannot be changed later. */
export interface HostProgram {
  readonly entry: string;
  readonly args: readonly string[];
  /** For vendor libraries, without any PIN. */
  readonly env: NodeJS.ProcessEnv;
  /** Number of streams for lanes, besides standard input, output and error. */
  readonly lanes: number;
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
/** As many sessions as a configuration that does not say otherwise. */
const EARLY_LANES = 16;
/** What systemd and tracing give the plugin alone: a collector's headers may hold its password. */
const OF_THE_PLUGIN = /^(?:NOTIFY_SOCKET|WATCHDOG_USEC|WATCHDOG_PID|OTEL_.*)$/u;

/** Names of variables that may hold a PIN. With another name, the process ends when the configuration is known. */
const MAY_BE_PIN = /pin|pass|secret/iu;

interface EarlyHost {
  readonly child: ChildProcess;
  readonly program: HostProgram;
}

let early: EarlyHost | undefined;

/** Returns an environment without what is for the plugin alone. PINs in it are not known here. */
export function environmentOfHosts(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !OF_THE_PLUGIN.test(name)));
}

/** Spawns a process; if there is none, the child emits "error". @throws Error if file descriptors run out */
export function spawnHostProgram({ entry, args, env, lanes }: HostProgram): ChildProcess {
  const streams = Array.from({ length: lanes }, () => "pipe" as const);
  return spawn(process.execPath, [...SMALL, entry, ...args], {
    env,
    stdio: ["pipe", "ignore", "pipe", ...streams],
  });
}

/** Spawns the plugin's first token host before the configuration is known, unless the environment may hold a PIN. */
export function spawnEarlyHost(): void {
  const env = environmentOfHosts(process.env);
  if (Object.keys(env).some((name) => MAY_BE_PIN.test(name))) return;
  const program = { entry: TOKEN_HOST_ENTRY, args: [], env, lanes: EARLY_LANES };
  try {
    const child = spawnHostProgram(program);
    early = { child, program };
    // Whoever needs a host then spawns another one, and reports what prevents it.
    child.once("error", discardEarlyHost);
    child.stdin?.once("error", discardEarlyHost);
    process.once("exit", discardEarlyHost);
  } catch {
    // As above.
  }
}

/**
 * Returns the process that was spawned early, once, if it is what would be spawned now. Otherwise ends it: it may have more
 * in its environment than it may know.
 */
export function takeEarlyHost(wanted: HostProgram): ChildProcess | undefined {
  if (early === undefined) return undefined;
  const { child, program } = early;
  if (!isRunning(child) || !suits(program, wanted)) {
    discardEarlyHost();
    return undefined;
  }
  early = undefined;
  process.off("exit", discardEarlyHost);
  child.off("error", discardEarlyHost);
  child.stdin?.off("error", discardEarlyHost);
  return child;
}

/** Ends the process that was spawned early, if nothing has taken it. */
export function discardEarlyHost(): void {
  if (early === undefined) return;
  const { child } = early;
  early = undefined;
  process.off("exit", discardEarlyHost);
  child.on("error", () => undefined);
  child.stdin?.on("error", () => undefined);
  if (isRunning(child)) child.kill("SIGKILL");
}

function isRunning({ pid, exitCode, signalCode }: ChildProcess): boolean {
  return pid !== undefined && exitCode === null && signalCode === null;
}

function suits(has: HostProgram, wanted: HostProgram): boolean {
  const names = Object.keys(has.env);
  return (
    has.entry === wanted.entry &&
    has.lanes >= wanted.lanes &&
    wanted.args.length === 0 &&
    names.length === Object.keys(wanted.env).length &&
    names.every((name) => has.env[name] === wanted.env[name])
  );
}
