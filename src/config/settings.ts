// The settings that the plugin and its commands run with: the file, overridden by flags, checked as a whole.
// All problems are told at once, each with its path and the value that would be right.
import { isAbsolute } from "node:path";
import { z } from "zod";
import { KmsError } from "../errors.js";
import { readConfigurationFile } from "./file.js";
import { formatPkcs11Uri, parsePkcs11Uri, requireKekUri, type KekUri } from "./pkcs11-uri.js";
import { parsePinSourceName } from "./pin-source-name.js";
import { defaultPinSource, describePinSource, resolvePinSource, type PinSource } from "./pin-source.js";
import { API_VERSION, configurationSchema, KIND, type Configuration } from "./schema.js";

/** Command line flags that override the file. */
export interface Flags {
  readonly key?: string;
  readonly socket?: string;
  readonly mode?: string;
  readonly http?: string;
  readonly stateDir?: string;
  readonly moduleParams?: string;
  readonly mechanism?: string;
  readonly logLevel?: string;
}

export interface TokenSettings {
  readonly uri: KekUri;
  readonly modulePath: string;
  readonly moduleParameters?: string;
  readonly pin: PinSource;
}

export interface Settings {
  readonly socket?: {
    readonly path: string;
    readonly abstract: boolean;
    readonly mode: number;
    readonly group?: string;
  };
  readonly objectName: string;
  /** In order of preference, at least one. */
  readonly tokens: readonly [TokenSettings, ...TokenSettings[]];
  readonly pinnedKey?: string;
  readonly allowUnprotected: readonly string[];
  readonly refreshIntervalMs: number;
  readonly mode: "direct" | "local-kek";
  readonly mechanism: Configuration["mechanism"];
  readonly localKek: { readonly maxAgeMs: number; readonly maxUses: number };
  readonly cache: { readonly entries: number; readonly ttlMs: number };
  readonly hsm: {
    readonly requestTimeoutMs: number;
    readonly startTimeoutMs: number;
    readonly hosts: number;
    readonly sessions: number;
    readonly queue: number;
    readonly allowFinalTry: boolean;
  };
  readonly health: { readonly outageGracePeriodMs: number; readonly onHsmLoss: "stopWrites" | "keepWriting" };
  readonly http?: { readonly host: string; readonly port: number };
  readonly stateDir?: string;
  readonly logLevel: Configuration["log"]["level"];
  /** What is not wrong but should be known. */
  readonly warnings: readonly string[];
}

export interface LoadRequest {
  readonly configPath?: string;
  readonly flags: Flags;
  readonly env: NodeJS.ProcessEnv;
  /** `serve` cannot do without a socket path. */
  readonly needsSocket: boolean;
}

/** @throws KmsError CONFIG_INVALID, one line a problem */
export function loadSettings({ configPath, flags, env, needsSocket }: LoadRequest): Settings {
  const file = configPath === undefined ? undefined : readConfigurationFile(configPath);
  const document = withFlags(file?.document ?? { apiVersion: API_VERSION, kind: KIND }, flags);
  const parsed = configurationSchema.safeParse(document);
  if (!parsed.success) throw invalid(parsed.error.issues.flatMap(describeIssue));
  const problems = new Problems();
  const settings = normalise(parsed.data, env, needsSocket, problems);
  if (settings === undefined || problems.lines.length > 0) throw invalid(problems.lines);
  return { ...settings, warnings: file?.warnings ?? [] };
}

/** Collects problems, so that all can be told at once. */
class Problems {
  readonly lines: string[] = [];

  add(path: string, wrong: string): void {
    this.lines.push(`${path}: ${wrong}`);
  }

  /** Returns what `make` returns, or undefined after noting what it throws. */
  try<T>(path: string, make: () => T): T | undefined {
    try {
      return make();
    } catch (error) {
      if (!(error instanceof KmsError)) throw error;
      this.add(path, error.message);
      return undefined;
    }
  }
}

type Document = Readonly<Record<string, unknown>>;

/** Puts each flag where the file would have it. */
function withFlags(document: Document, flags: Flags): Document {
  const result: Record<string, unknown> = { ...document };
  const set = (section: string, name: string, value: string | undefined): void => {
    if (value === undefined) return;
    const before = result[section];
    result[section] = { ...(typeof before === "object" ? before : {}), [name]: value };
  };
  set("keys", "uri", flags.key);
  set("socket", "path", flags.socket);
  set("http", "address", flags.http);
  set("module", "parameters", flags.moduleParams);
  set("log", "level", flags.logLevel);
  if (flags.mode !== undefined) result["mode"] = flags.mode;
  if (flags.mechanism !== undefined) result["mechanism"] = flags.mechanism;
  if (flags.stateDir !== undefined) result["stateDir"] = flags.stateDir;
  return result;
}

function describeIssue(issue: z.core.$ZodIssue): string[] {
  const path = issue.path.join(".") || "the file";
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map(
      (key) => `${[...issue.path, key].join(".")}: unknown setting; ${knownBeside(issue.path)}`,
    );
  }
  return [`${path}: should be ${issue.message}`];
}

function knownBeside(path: readonly PropertyKey[]): string {
  let schema: unknown = configurationSchema;
  for (const name of path) schema = shapeOf(schema)?.[String(name)];
  const names = Object.keys(shapeOf(schema) ?? {});
  return names.length === 0 ? "remove it" : `there are ${names.join(", ")}`;
}

function shapeOf(schema: unknown): Record<string, unknown> | undefined {
  let inner = schema;
  while (inner instanceof z.ZodPrefault || inner instanceof z.ZodOptional || inner instanceof z.ZodDefault)
    inner = inner.def.innerType;
  return inner instanceof z.ZodObject ? inner.shape : undefined;
}

function normalise(
  config: Configuration,
  env: NodeJS.ProcessEnv,
  needsSocket: boolean,
  problems: Problems,
): Omit<Settings, "warnings"> | undefined {
  const socket =
    config.socket.path === undefined ? undefined : problems.try("socket.path", () => socketOf(config.socket));
  if (needsSocket && config.socket.path === undefined)
    problems.add("socket.path", "is missing; give it or --socket, such as /run/kms-pkcs11/kms.sock");
  const http = problems.try("http.address", () => httpOf(config.http.address));
  const tokens = tokensOf(config, env, problems);
  const [preferred, ...others] = tokens;
  if (preferred === undefined) return undefined;
  const objectName = preferred.uri.object;
  for (const [index, { uri }] of others.entries()) {
    if (uri.object !== objectName)
      problems.add(
        `failover.${String(index)}.uri`,
        `names another object than keys.uri; use object=${objectName}`,
      );
  }
  return {
    ...(socket && { socket }),
    objectName,
    tokens: [preferred, ...others],
    ...(config.keys.active !== undefined && { pinnedKey: config.keys.active }),
    allowUnprotected: config.keys.allowUnprotected,
    refreshIntervalMs: config.keys.refreshInterval,
    mode: config.mode,
    mechanism: config.mechanism,
    localKek: { maxAgeMs: config.localKek.maxAge, maxUses: config.localKek.maxUses },
    cache: { entries: config.cache.entries, ttlMs: config.cache.ttl },
    hsm: {
      requestTimeoutMs: config.hsm.requestTimeout,
      startTimeoutMs: config.hsm.startTimeout,
      hosts: config.hsm.hosts,
      sessions: config.hsm.sessions,
      queue: config.hsm.queue,
      allowFinalTry: config.hsm.allowFinalTry,
    },
    health: { outageGracePeriodMs: config.health.outageGracePeriod, onHsmLoss: config.health.onHsmLoss },
    ...(http && http !== "off" && { http }),
    ...(config.stateDir !== undefined && { stateDir: config.stateDir }),
    logLevel: config.log.level,
  };
}

function socketOf(socket: Configuration["socket"]): NonNullable<Settings["socket"]> {
  const path = (socket.path ?? "").replace(/^unix:(?:\/\/)?/, "");
  const name = path.replace(/^\//, "");
  const abstract = name.startsWith("@");
  if (abstract && !socket.allowAbstract) {
    throw wrong(
      "is an abstract socket, which every process on the node can connect to; use a file, or set socket.allowAbstract",
    );
  }
  if (!abstract && !isAbsolute(path))
    throw wrong("should be an absolute path, such as /run/kms-pkcs11/kms.sock");
  return {
    path: abstract ? name.slice(1) : path,
    abstract,
    mode: Number.parseInt(socket.mode, 8),
    ...(socket.group !== undefined && { group: socket.group }),
  };
}

function httpOf(address: string): "off" | { host: string; port: number } {
  if (address === "off" || address === "") return "off";
  const [, host = "", digits = ""] = /^(.*):(\d{1,5})$/.exec(address) ?? [];
  const name = host.replace(/^\[|\]$/g, "");
  const port = Number(digits);
  const loopback = name === "localhost" || name === "::1" || /^127(?:\.\d{1,3}){3}$/.test(name);
  if (digits === "" || port > 65_535 || !loopback)
    throw wrong("should be a loopback address and port, such as 127.0.0.1:8090, or off");
  return { host: name, port };
}

function tokensOf(config: Configuration, env: NodeJS.ProcessEnv, problems: Problems): TokenSettings[] {
  if (config.keys.uri === undefined) {
    problems.add(
      "keys.uri",
      "is missing; give it or --key, such as pkcs11:token=kms;object=kms-kek?module-path=/usr/lib/vendor.so",
    );
    return [];
  }
  const preferred = { uri: config.keys.uri, module: config.module, pin: config.pin };
  return [preferred, ...config.failover].flatMap((entry, index) => {
    const path = index === 0 ? "keys.uri" : `failover.${String(index - 1)}.uri`;
    return problems.try(path, () => tokenOf(entry, env)) ?? [];
  });
}

type TokenEntry = Configuration["failover"][number];

function tokenOf({ uri: text, module, pin }: TokenEntry, env: NodeJS.ProcessEnv): TokenSettings {
  const uri = requireKekUri(parsePkcs11Uri(text));
  const modulePath = module?.path ?? uri.modulePath;
  if (modulePath === undefined)
    throw wrong("names no library; add module-path=/path/to/vendor.so, or set module.path");
  if (!isAbsolute(modulePath)) throw wrong("has a module-path that is not absolute");
  return {
    uri,
    modulePath,
    ...(module?.parameters !== undefined && { moduleParameters: module.parameters }),
    pin: pinSourceOf(uri, pin, env),
  };
}

function pinSourceOf(uri: KekUri, pin: Configuration["pin"], env: NodeJS.ProcessEnv): PinSource {
  const [entry] = Object.entries(pin ?? {});
  const text = entry === undefined ? uri.pinSource : entry.join(":");
  return text === undefined ? defaultPinSource(env) : resolvePinSource(parsePinSourceName(text), env);
}

/** The settings for the log: no PIN can be in them but in module parameters, which are left out. */
export function effectiveSettings(settings: Settings): object {
  const tokens = settings.tokens.map(({ uri, modulePath, moduleParameters, pin }) => ({
    uri: formatPkcs11Uri(uri),
    modulePath,
    moduleParameters: moduleParameters === undefined ? undefined : "[set]",
    pin: describePinSource(pin),
  }));
  return { ...settings, tokens, warnings: undefined };
}

function wrong(message: string): KmsError {
  return new KmsError("CONFIG_INVALID", message);
}

function invalid(lines: readonly string[]): KmsError {
  return new KmsError("CONFIG_INVALID", lines.join("\n"));
}
