// A plugin under test: the built `kms-pkcs11 serve` with its socket, state directory and HTTP endpoints on loopback. A
// restart keeps all three.

import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "../../support/free-port.js";
import type { HsmToken } from "./hsm-token.js";
import { MAIN } from "../../support/plugin-process.js";
import { ManagedProcess } from "./process.js";
import { Metrics } from "./prometheus-text.js";
import { newFolder } from "./run.js";
import { until } from "./wait.js";

export interface PluginOptions {
  readonly token: HsmToken;
  readonly name?: string;
  /** The object name of the KEK, as in `token.uri(object)`. */
  readonly object?: string;
  readonly mode?: "direct" | "local-kek";
  readonly extraArgs?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /**
   * Further settings of the configuration file. If given, the plugin is started with `--config` only, and the file
   * contains the key and the addresses that are otherwise set by flags.
   */
  readonly config?: Readonly<Record<string, Readonly<Record<string, string | number>>>>;
}

/** The addresses and paths of a plugin. */
export interface PluginPlaces {
  readonly folder: string;
  readonly socket: string;
  /** host:port of the HTTP endpoints. */
  readonly http: string;
  readonly stateFolder: string;
}

export class Plugin {
  readonly name: string;
  readonly places: PluginPlaces;
  readonly #args: readonly string[];
  readonly #env: Readonly<Record<string, string>>;
  /** Further environment variables, from the next start on. */
  env: Readonly<Record<string, string>> = {};
  #process: ManagedProcess | undefined;

  private constructor(options: PluginOptions, places: PluginPlaces, args: readonly string[]) {
    this.name = options.name ?? "plugin";
    this.places = places;
    this.#args = args;
    this.#env = { ...options.token.env, ...options.env };
  }

  /** Chooses its addresses and writes its configuration, but starts nothing. */
  static async create(options: PluginOptions): Promise<Plugin> {
    if (!existsSync(MAIN)) throw new Error(`${MAIN} is missing: npm run build`);
    const folder = await newFolder(options.name ?? "plugin");
    const places: PluginPlaces = {
      folder,
      socket: join(folder, "kms.sock"),
      http: `127.0.0.1:${await freePort()}`,
      stateFolder: join(folder, "state"),
    };
    await mkdir(places.stateFolder, { mode: 0o700 });
    const flags = options.config
      ? ["--config", await writeConfiguration(options, places)]
      : [
          ...["--key", options.token.uri(options.object)],
          ...["--socket", places.socket],
          ...["--http", places.http],
          ...["--state-dir", places.stateFolder],
          ...(options.mode ? ["--mode", options.mode] : []),
        ];
    return new Plugin(options, places, ["serve", ...flags, ...(options.extraArgs ?? [])]);
  }

  /** Creates a plugin, starts it and waits until it is ready. */
  static async start(options: PluginOptions): Promise<Plugin> {
    const plugin = await Plugin.create(options);
    await plugin.start();
    return plugin;
  }

  /** Starts the process and returns at once. `ready` waits for it. */
  launch(): void {
    if (this.#process !== undefined && this.#process.ending === undefined) {
      throw new Error(`${this.name} is already running`);
    }
    this.#process = ManagedProcess.start({
      name: this.name,
      command: process.execPath,
      args: [MAIN, ...this.#args],
      env: { ...this.#env, ...this.env },
      logFile: join(this.places.folder, "plugin.log"),
    });
  }

  /** Resolves when the socket exists and /readyz returns 200, with the time since the launch in ms. */
  async ready(timeoutMs = 20_000): Promise<number> {
    const child = this.#process;
    if (child === undefined) throw new Error(`${this.name} was never launched`);
    const isReady = async (): Promise<boolean> =>
      existsSync(this.places.socket) && (await this.get("/readyz")).status === 200;
    await until(`${this.name} is ready`, isReady, { timeoutMs, intervalMs: 20, process: child });
    return Date.now() - child.startedAt;
  }

  async start(timeoutMs?: number): Promise<number> {
    this.launch();
    return this.ready(timeoutMs);
  }

  /** Sends SIGTERM. Returns how it ended: `exit code 0`, or `SIGKILL` if it had to be killed. */
  async stop(): Promise<string> {
    return (await this.#process?.stop()) ?? "never launched";
  }

  /** Sends SIGKILL to the plugin and its token hosts. */
  async kill(): Promise<void> {
    await this.#process?.kill();
  }

  async restart(timeoutMs?: number): Promise<number> {
    await this.stop();
    return this.start(timeoutMs);
  }

  /** Restarts the plugin with its memory, and its last answers under replaced KEKs, made this much older. */
  async ageMemory(ms: number): Promise<void> {
    await this.stop();
    const path = join(this.places.stateFolder, "published-key.json");
    const memory = JSON.parse(await readFile(path, "utf8")) as {
      since: number;
      answered: { statusAt: number | null; encryptAt: number | null }[];
    };
    const older = (time: number | null): number | null => time && time - ms;
    const answered = memory.answered.map((one) => ({
      ...one,
      statusAt: older(one.statusAt),
      encryptAt: older(one.encryptAt),
    }));
    await writeFile(path, JSON.stringify({ ...memory, since: memory.since - ms, answered }));
    await this.start();
  }

  get running(): boolean {
    return this.#process !== undefined && this.#process.ending === undefined;
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** Sends a GET for /livez, /readyz, /healthz, /metrics or /keys. */
  async get(path: string): Promise<{ status: number; body: string }> {
    const response = await fetch(`http://${this.places.http}${path}`, {
      signal: AbortSignal.timeout(10_000),
    });
    return { status: response.status, body: await response.text() };
  }

  async metrics(): Promise<Metrics> {
    const { status, body } = await this.get("/metrics");
    if (status !== 200) throw new Error(`${this.name} /metrics: ${status} ${body}`);
    return new Metrics(body);
  }

  /** Returns the JSON of /keys. */
  async keys(): Promise<unknown> {
    return JSON.parse((await this.get("/keys")).body);
  }

  logTail(lines?: number): string {
    return this.#process?.logTail(lines) ?? "";
  }
}

/** Writes the configuration as JSON, which is also YAML. Returns the path. */
async function writeConfiguration(options: PluginOptions, places: PluginPlaces): Promise<string> {
  const { config = {}, token, object, mode = "direct" } = options;
  const configuration = {
    apiVersion: "kms-pkcs11.dev/v1",
    kind: "PluginConfiguration",
    mode,
    ...config,
    socket: { path: places.socket, ...config["socket"] },
    keys: { uri: token.uri(object), ...config["keys"] },
    http: { address: places.http },
    stateDir: places.stateFolder,
  };
  const path = join(places.folder, "config.yaml");
  await writeFile(path, JSON.stringify(configuration, null, 2), { mode: 0o600 });
  return path;
}
