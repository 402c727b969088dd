// A plugin as its users run it: a process of the built program on a token, with its own configuration file, socket and
// log; and the memory that it and its token hosts use.

import { execFileSync, spawn, spawnSync, type ChildProcess } from "node:child_process";
import { mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { stringify } from "yaml";

import { KmsClient } from "../../src/kms-client/kms-client.js";
import { checkJsonOutput } from "./output-schema.js";
import { makeFolder, tokenUri, type TestToken } from "./token.js";
import { waitFor } from "./wait.js";

export const MAIN = fileURLToPath(new URL("../../dist/main.js", import.meta.url));
/** Limit for a start that hangs, not for one that is slow. */
const START_LIMIT_MS = 55_000;

export interface CommandResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs one command of the built program to its end. @param input what it reads on standard input */
export function kmsPkcs11(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  input = "",
): CommandResult {
  const options = {
    env: { ...process.env, ...env },
    encoding: "utf8",
    timeout: START_LIMIT_MS,
    input,
  } as const;
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], options);
  const result = { code: status, stdout, stderr };
  checkJsonOutput(args, result);
  return result;
}

/** Makes the first KEK on a token. */
export function createKek(token: TestToken, object = "kms-kek"): void {
  const parameters = token.moduleParameters === undefined ? [] : ["--module-params", token.moduleParameters];
  const args = [MAIN, "keys", "create", "--key", tokenUri(token, object), ...parameters];
  execFileSync(process.execPath, args, { env: { ...process.env, ...token.env }, stdio: "ignore" });
}

/** The sections of the configuration file. */
export type PluginSettings = Readonly<Record<string, object | string>> & {
  readonly socket?: object;
  readonly keys?: object;
};

export class PluginProcess {
  readonly folder = makeFolder("plugin");
  readonly socket = join(this.folder, "run", "kms.sock");
  readonly stateDir = join(this.folder, "state");
  readonly logFile = join(this.folder, "serve.log");
  readonly configFile = join(this.folder, "config.yaml");
  /** Variables in addition to the token's environment, from the next start on. */
  env: Readonly<Record<string, string>> = {};
  /** The Node.js binary, from the next start on. */
  program = process.execPath;
  readonly #token: TestToken;
  readonly #object: string;
  #child: ChildProcess | undefined;

  /** @param object the label of the KEK */
  constructor(token: TestToken, settings: PluginSettings = {}, object = "kms-kek") {
    this.#token = token;
    this.#object = object;
    mkdirSync(join(this.folder, "run"), { mode: 0o700 });
    this.configure(settings);
  }

  /** Writes the configuration file that the next start reads. */
  configure(settings: PluginSettings): void {
    const { moduleEntry, moduleParameters } = this.#token;
    const uri = tokenUri(this.#token, this.#object);
    const document = {
      apiVersion: "kms-pkcs11.dev/v1",
      kind: "PluginConfiguration",
      ...settings,
      socket: { path: this.socket, ...settings.socket },
      // A PIN source is given once.
      keys: { uri: "pin" in settings ? uri.replace(/&pin-source=.*/, "") : uri, ...settings.keys },
      stateDir: this.stateDir,
      ...((moduleEntry ?? moduleParameters) !== undefined && {
        module: { entry: moduleEntry, parameters: moduleParameters },
      }),
    };
    writeFileSync(this.configFile, stringify(document), { mode: 0o600 });
  }

  get running(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get log(): string {
    return readFileSync(this.logFile, "utf8");
  }

  /** Starts the process without waiting until it serves. */
  launch(): void {
    const log = openSync(this.logFile, "a", 0o600);
    const env = { ...process.env, ...this.#token.env, ...this.env };
    this.#child = spawn(this.program, [MAIN, "serve", "--config", this.configFile], {
      env,
      stdio: ["ignore", log, log],
    });
  }

  /** Starts the process and waits until its Status is ok. */
  async start(): Promise<void> {
    this.launch();
    const client = new KmsClient(this.socket);
    try {
      await waitFor(
        async () => {
          if (!this.running) throw new Error(`the plugin has ended:\n${this.log}`);
          return (await client.status()).healthz === "ok";
        },
        { what: "an ok Status", timeoutMs: START_LIMIT_MS, intervalMs: 50 },
      );
    } finally {
      client.close();
    }
  }

  /** Replaces the stored memory of past answers while the plugin is not running; times are in ms since the epoch. */
  remember(memory: {
    readonly since: number;
    readonly answered?: readonly { keyId: string; statusAt: number; encryptAt: number | null }[];
  }): void {
    const document = {
      version: 1,
      keyId: null,
      activation: null,
      atBeginning: null,
      answered: [],
      ...memory,
    };
    mkdirSync(this.stateDir, { recursive: true, mode: 0o700 });
    writeFileSync(join(this.stateDir, "published-key.json"), JSON.stringify(document), { mode: 0o600 });
  }

  /** Ends the process and returns its exit code. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    const child = this.#child;
    if (child === undefined || !this.running) return child?.exitCode ?? null;
    const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
    child.kill(signal);
    return ended;
  }

  /** Returns the resident memory of the plugin and its token hosts together, in bytes. */
  residentBytes(): number {
    const { pid } = this;
    return pid === undefined
      ? 0
      : [pid, ...childrenOf(pid)].reduce((sum, one) => sum + residentBytes(one), 0);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Returns the process ids of a plugin's token hosts. */
export function childrenOf(pid: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && statusOf(Number(name), "PPid") === pid)
    .map(Number);
}

/** Returns the resident memory of a process, in bytes; 0 if it has ended. */
export function residentBytes(pid: number): number {
  return 1024 * (statusOf(pid, "VmRSS") ?? 0);
}

/** Returns a number from /proc/PID/status; undefined if the process has ended. */
function statusOf(pid: number, name: string): number | undefined {
  try {
    const line = new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"));
    return line?.[1] === undefined ? undefined : Number(line[1]);
  } catch {
    return undefined;
  }
}
