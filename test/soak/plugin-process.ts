// A plugin process for the soak, on a token behind the fault module, and what it and its token hosts use of
// the machine's memory.

import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { tokenUri, type TestToken } from "../support/token.js";

const MAIN = fileURLToPath(new URL("../../dist/main.js", import.meta.url));

export class PluginProcess {
  readonly folder = mkdtempSync(join(tmpdir(), "kms-soak-"));
  readonly socket = join(this.folder, "run", "kms.sock");
  readonly logFile = join(this.folder, "serve.log");
  readonly #child: ChildProcess;

  constructor(token: TestToken) {
    const env = { ...process.env, ...token.env };
    const uri = tokenUri(token, "kms-kek");
    execFileSync(process.execPath, [MAIN, "keys", "create", "--key", uri], { env, stdio: "ignore" });
    mkdirSync(join(this.folder, "run"), { mode: 0o700 });
    const config = join(this.folder, "config.yaml");
    writeFileSync(config, configuration(uri, this.socket, join(this.folder, "state")));
    const log = openSync(this.logFile, "w");
    this.#child = spawn(process.execPath, [MAIN, "serve", "--config", config], {
      env,
      stdio: ["ignore", log, log],
    });
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Resident memory of the plugin and its token hosts together, in bytes. */
  residentBytes(): number {
    const { pid } = this.#child;
    return pid === undefined
      ? 0
      : [pid, ...childrenOf(pid)].reduce((sum, one) => sum + residentBytesOf(one), 0);
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGTERM");
    if (this.running) await ended;
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** No cache, so that every Decrypt reaches the token, and short times, so that many faults fit a minute. */
function configuration(uri: string, socket: string, stateDir: string): string {
  return `apiVersion: kms-pkcs11.dev/v1
kind: PluginConfiguration
socket: { path: ${JSON.stringify(socket)} }
keys: { uri: ${JSON.stringify(uri)}, refreshInterval: 1s }
cache: { entries: 0 }
hsm: { requestTimeout: 800ms, startTimeout: 3s }
stateDir: ${JSON.stringify(stateDir)}
log: { level: warn }
`;
}

function childrenOf(pid: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && statusOf(Number(name), "PPid") === pid)
    .map(Number);
}

function residentBytesOf(pid: number): number {
  return 1024 * (statusOf(pid, "VmRSS") ?? 0);
}

/** A number of /proc/PID/status; undefined when the process has gone. */
function statusOf(pid: number, name: string): number | undefined {
  try {
    const line = new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(
      readFileSync(`/proc/${String(pid)}/status`, "utf8"),
    );
    return line?.[1] === undefined ? undefined : Number(line[1]);
  } catch {
    return undefined;
  }
}
