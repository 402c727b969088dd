// Spawns the processes of token hosts. The plugin's first one is spawned before the plugin loads its own modules and
// its configuration, so that both processes load at the same time. It makes no PKCS#11 call until the plugin names the
// library.
import { spawn, type ChildProcess } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The compiled entry file of the token host. */
export const TOKEN_HOST_ENTRY = fileURLToPath(new URL("token-host/main.js", import.meta.url));

/** How to start a token host's process. */
export interface HostProgram {
  readonly entry: string;
  readonly args: readonly string[];
  /** For vendor libraries, without any PIN. */
  readonly env: NodeJS.ProcessEnv;
  /** Number of streams for lanes, besides standard input, output and error. */
  readonly lanes: number;
}

/**
 * A token host has little in memory, so it needs fewer threads, and garbage is collected before the heap reaches the
 * usual 16 MB. This saves about 15 MB for a host under load, at the same processor time.
 */
const SMALL = [
  "--max-semi-space-size=1",
  "--initial-old-space-size=6",
  "--heap-growing-percent=30",
  "--single-threaded-gc",
  "--v8-pool-size=1",
];
/** The default number of sessions. */
const EARLY_LANES = 16;
/** Variables that systemd and tracing set for the plugin alone; a collector's headers may hold a password. */
const OF_THE_PLUGIN = /^(?:NOTIFY_SOCKET|WATCHDOG_USEC|WATCHDOG_PID|OTEL_.*)$/u;

/** Where the configuration may be, besides the command line: as in config/location.ts, which takes time to load. */
const CONFIGURATION_VARIABLE = "KMS_PKCS11_CONFIG";
const DEFAULT_CONFIGURATION = "/etc/kms-pkcs11/config.yaml";
const CONFIG_FLAG = /^(?:--config=|-c)/u;
const URI = /^(?:--[a-z-]+=)?pkcs11:/iu;
/** A larger configuration is not searched for the names of variables. */
const MAX_CONFIGURATION_BYTES = 1 << 20;

interface EarlyHost {
  readonly child: ChildProcess;
  readonly program: HostProgram;
}

let early: EarlyHost | undefined;

/** Returns the environment without the plugin's own variables. It does not know which other variables hold PINs. */
export function environmentOfHosts(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !OF_THE_PLUGIN.test(name)));
}

/** Spawns a process. If that fails, the child emits "error". @throws Error if file descriptors run out */
export function spawnHostProgram({ entry, args, env, lanes }: HostProgram): ChildProcess {
  const streams = Array.from({ length: lanes }, () => "pipe" as const);
  return spawn(process.execPath, [...SMALL, entry, ...args], {
    env,
    stdio: ["pipe", "ignore", "pipe", ...streams],
  });
}

/**
 * Spawns the plugin's first token host before the configuration is known, unless a variable may hold a PIN.
 * @param words the command line, which may name a configuration
 */
export function spawnEarlyHost(words: readonly string[], defaultPath = DEFAULT_CONFIGURATION): void {
  const env = environmentOfHosts(process.env);
  if (mayHoldPin(Object.keys(env), [...words, env[CONFIGURATION_VARIABLE] ?? "", defaultPath])) return;
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

/** Returns whether the command line, or a file that it or the environment names, contains the name of a variable. */
function mayHoldPin(variables: readonly string[], words: readonly string[]): boolean {
  const uris = words.filter((word) => URI.test(word));
  const files = words
    .filter((word) => !URI.test(word))
    .flatMap((word) => [word, word.replace(CONFIG_FLAG, "")]);
  try {
    const texts = [...uris, ...[...new Set(files)].flatMap(textOf)];
    // A name may be written with the escapes of a URI, which are resolved here, or those of YAML, which are not.
    const named = new Set(
      texts.flatMap((text) => [text, unescaped(text)]).flatMap((text) => text.match(/\w+/gu)),
    );
    return texts.some((text) => text.includes("\\")) || variables.some((name) => named.has(name));
  } catch {
    // Whoever reads the configuration reports what cannot be read.
    return true;
  }
}

function unescaped(uri: string): string {
  return uri.replace(/%([\da-f]{2})/giu, (_escape, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

function textOf(path: string): string[] {
  const file = path === "" ? undefined : statSync(path, { throwIfNoEntry: false });
  if (file === undefined) return [];
  if (!file.isFile() || file.size > MAX_CONFIGURATION_BYTES) throw new Error("not a configuration");
  return [readFileSync(path, "utf8")];
}

/**
 * Returns the process that was spawned early if it was started as `wanted` says; it is returned only once. Ends it
 * otherwise: its environment may hold variables that it must not see.
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
