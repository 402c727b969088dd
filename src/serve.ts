// The composition root: the only file that constructs the plugin. Starts it in order, the socket first, so
// that kube-apiserver finds somebody to ask however long the HSM takes, and stops it in the reverse order.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import {
  describePinSource,
  environmentWithoutPin,
  pinSourceStamp,
  readPin,
  type PinSource,
} from "./config/pin-source.js";
import { tokenSelector } from "./config/pkcs11-uri.js";
import { effectiveSettings, type Settings, type TokenSettings } from "./config/settings.js";
import { KmsError } from "./errors.js";
import type { HsmObserver } from "./hsm/host-pool.js";
import { PinGate, type Pin } from "./hsm/pin-gate.js";
import { FilePinMemory, VolatilePinMemory } from "./hsm/pin-memory.js";
import { TokenHsm } from "./hsm/token-hsm.js";
import type { Log } from "./log.js";
import { startHttp, type Readiness, type RunningHttp } from "./observability/http.js";
import { createLogger } from "./observability/logger.js";
import { Metrics } from "./observability/metrics.js";
import { RequestLog } from "./observability/request-log.js";
import { ActiveKey } from "./provider/active-key.js";
import type { SchedulePolicy } from "./provider/generations.js";
import { reportKeys, type KeyReport } from "./provider/key-report.js";
import { Keyring } from "./provider/keyring.js";
import { LocalKeks } from "./provider/local-kek.js";
import { Outage } from "./provider/outage.js";
import { Prover } from "./provider/prover.js";
import { Provider } from "./provider/provider.js";
import { FilePublishedMemory, NO_PUBLISHED_MEMORY } from "./provider/published-memory.js";
import { UnwrapCache } from "./provider/unwrap-cache.js";
import { Watch } from "./provider/watch.js";
import { grpcStatusName } from "./server/grpc-status.js";
import { startServer, type RunningServer } from "./server/server.js";

const TOKEN_HOST_ENTRY = fileURLToPath(new URL("./token-host/main.js", import.meta.url));
const DRAIN_MS = 5_000;
const HSM_STOP_MS = 1_000;

export const VERSION = (
  JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string }
).version;

/** How the names on the token are read, from the settings. */
export function schedulePolicy(settings: Settings): SchedulePolicy {
  const { objectName, pinnedKey, allowUnprotected } = settings;
  return { objectName, allowUnprotected, ...(pinnedKey !== undefined && { pinned: pinnedKey }) };
}

export interface TokenAccess {
  readonly settings: Settings;
  readonly token: TokenSettings;
  readonly hosts: number;
  readonly observer: HsmObserver;
  readonly log: Log;
  readonly env: NodeJS.ProcessEnv;
}

/** One token's HSM layer, not yet started. */
export function openToken({ settings, token, hosts, observer, log, env }: TokenAccess): TokenHsm {
  const { uri, modulePath, moduleParameters, pin } = token;
  const { requestTimeoutMs, startTimeoutMs, sessions, queue, allowFinalTry } = settings.hsm;
  const memory =
    settings.stateDir === undefined ? new VolatilePinMemory() : new FilePinMemory(settings.stateDir);
  const sources = settings.tokens.map((one) => one.pin);
  return new TokenHsm({
    host: {
      entry: TOKEN_HOST_ENTRY,
      env: environmentWithoutPin(env, sources),
      open: {
        modulePath,
        ...(moduleParameters !== undefined && { moduleParameters }),
        token: tokenSelector(uri),
        objectName: settings.objectName,
        ...(uri.id !== undefined && { ckaId: Buffer.from(uri.id).toString("hex") }),
      },
      sessions,
    },
    hosts,
    gate: new PinGate({ pin: pinFrom(pin, env), memory, allowFinalTry, log }),
    startTimeoutMs,
    requestTimeoutMs,
    queue,
    observer,
    log,
  });
}

function pinFrom(source: PinSource, env: NodeJS.ProcessEnv): Pin {
  return {
    read: () => readPin(source, env),
    stamp: () => pinSourceStamp(source),
    description: describePinSource(source),
  };
}

export interface Plugin {
  readonly log: Log;
  /** Where the HTTP endpoints are, if there are any. */
  readonly http: RunningHttp | undefined;
  /** Drains requests, closes sessions, wipes what was kept and removes the socket. */
  stop(): Promise<void>;
}

/**
 * Starts the plugin; it serves, if only with an error, when this resolves.
 * @throws KmsError SOCKET_UNUSABLE when the socket or the HTTP port cannot be had
 */
export async function startPlugin(settings: Settings, env: NodeJS.ProcessEnv): Promise<Plugin> {
  const log = createLogger(settings.logLevel);
  const metrics = new Metrics(VERSION);
  log.info(
    { version: VERSION, node: process.version, settings: effectiveSettings(settings) },
    "kms-pkcs11 starts",
  );
  for (const warning of settings.warnings) log.warn({}, warning);
  const [token] = settings.tokens;
  const hsm = openToken({ settings, token, hosts: settings.hsm.hosts, observer: metrics, log, env });
  const room = new ProviderRoom(settings, hsm, metrics, log);
  const server = await serveSocket(settings, room, metrics, log);
  let http: RunningHttp | undefined;
  try {
    http = settings.http && (await startHttp(settings.http, room.httpContent(metrics)));
  } catch (error) {
    await server.stop(0);
    throw error;
  }
  hsm.start();
  room.start();
  return {
    log,
    http,
    stop: async () => {
      await server.stop(DRAIN_MS);
      room.stop();
      await hsm.stop(HSM_STOP_MS);
      await http?.stop();
      log.info({}, "kms-pkcs11 stopped");
    },
  };
}

async function serveSocket(
  settings: Settings,
  room: ProviderRoom,
  metrics: Metrics,
  log: Log,
): Promise<RunningServer> {
  if (settings.socket === undefined) throw new KmsError("CONFIG_INVALID", "socket.path: is missing");
  const requestLog = new RequestLog(log);
  const server = await startServer(settings.socket, room.provider, (request) => {
    metrics.requestDone(request.operation, grpcStatusName(request.error?.code), request.seconds);
    requestLog.requestDone(request);
  });
  log.info({ socket: settings.socket.path, abstract: settings.socket.abstract }, "listening");
  return server;
}

/** The parts of the provider, put together. */
class ProviderRoom {
  readonly provider: Provider;
  readonly #keyring: Keyring;
  readonly #prover: Prover;
  readonly #active: ActiveKey;
  readonly #outage: Outage;
  readonly #cache: UnwrapCache;
  readonly #localKeks: LocalKeks;
  readonly #watch: Watch;

  constructor(settings: Settings, hsm: TokenHsm, metrics: Metrics, log: Log) {
    const { outageGracePeriodMs, onHsmLoss } = settings.health;
    const memory =
      settings.stateDir === undefined ? NO_PUBLISHED_MEMORY : new FilePublishedMemory(settings.stateDir, log);
    this.#cache = new UnwrapCache({ ...settings.cache, observer: metrics });
    this.#prover = new Prover(hsm, settings.mechanism, log);
    this.#localKeks = new LocalKeks(Provider.localKekWrapper(hsm, this.#prover), settings.localKek);
    this.#keyring = new Keyring({
      hsm,
      policy: schedulePolicy(settings),
      log,
      onRead: (_schedule, gone) => {
        for (const { record } of gone) this.#forget(record.keyId);
      },
    });
    this.#outage = new Outage({ gracePeriodMs: outageGracePeriodMs, onHsmLoss }, log);
    this.#active = new ActiveKey({
      keyring: this.#keyring,
      prover: this.#prover,
      memory,
      isHsmAway: () => this.#outage.reason !== undefined,
      now: () => Date.now(),
      log,
    });
    this.#watch = new Watch({
      hsm,
      keyring: this.#keyring,
      prover: this.#prover,
      outage: this.#outage,
      intervalMs: settings.refreshIntervalMs,
      onRound: () => this.#afterRound(settings.mode),
    });
    this.provider = new Provider({
      mode: settings.mode,
      hsm,
      keyring: this.#keyring,
      prover: this.#prover,
      active: this.#active,
      outage: this.#outage,
      cache: this.#cache,
      localKeks: this.#localKeks,
      onHsmTrouble: () => {
        this.#watch.nudge();
      },
    });
    metrics.watch({
      hsmUp: () => hsm.state().up && this.#outage.reason === undefined,
      outageSeconds: () => this.#outage.seconds,
      readyHosts: () => hsm.pool.readyHosts,
      sessions: () => hsm.pool.sessions,
      queueLength: () => hsm.pool.queueLength,
      cacheEntries: () => this.#cache.size,
      localKekUses: () => this.#localKeks.uses,
      keys: () => this.#report(),
    });
  }

  start(): void {
    void this.#watch.run();
  }

  stop(): void {
    this.#watch.stop();
    this.#cache.clear();
    this.#localKeks.clear();
  }

  httpContent(metrics: Metrics): Parameters<typeof startHttp>[1] {
    return {
      readiness: () => this.#readiness(),
      keys: () => ({ activeKeyId: this.#active.current?.record.keyId ?? null, keys: this.#report() }),
      metrics: () => metrics.text(),
      metricsType: metrics.contentType,
    };
  }

  #report(): KeyReport[] {
    return reportKeys(this.#keyring, this.#prover, this.#active, Date.now());
  }

  #forget(keyId: string): void {
    this.#cache.dropKey(keyId);
    this.#localKeks.dropKey(keyId);
  }

  async #afterRound(mode: Settings["mode"]): Promise<void> {
    this.#cache.purgeStale();
    const current = this.#active.current;
    if (mode !== "local-kek" || current === undefined || this.#outage.reason !== undefined) return;
    // Ahead of the first Encrypt, which may then come while the HSM is away; a failure shows at the next proof.
    await this.#localKeks.prepare(current.record.keyId).catch(() => undefined);
  }

  /** Unready as soon as the HSM is away or a KEK fails, whatever Status still answers. */
  #readiness(): Readiness {
    const lines: string[] = [];
    if (this.#outage.reason !== undefined)
      lines.push(`HSM is away for ${this.#outage.seconds.toFixed(0)} s: ${this.#outage.reason.message}`);
    try {
      const { healthz } = this.provider.peekStatus();
      if (healthz !== "ok") lines.push(healthz);
    } catch (error) {
      lines.push(KmsError.from(error).message);
    }
    for (const { keyId, failure } of this.#report())
      if (failure !== null) lines.push(`KEK ${keyId}: ${failure}`);
    return { ready: lines.length === 0, lines: lines.length === 0 ? ["ok"] : [...new Set(lines)] };
  }
}
