// The settings of the plugin and its commands: the file, overridden by flags, checked as a whole. Reports all problems
// at once. Durations are in milliseconds from here on, and nothing else reads the file.
import { auditOf, type AuditSettings } from "./audit-settings.js";
import { checkCombinations } from "./combinations.js";
import { readConfigurationFile } from "./file.js";
import type { HttpAddress } from "./http-address.js";
import { overlayFlags, type Flags } from "./flags.js";
import { invalidLines } from "./invalid.js";
import { permissionWarning } from "./pin-source.js";
import { parseNodeAddresses } from "./node-address.js";
import type { Positions } from "./positions.js";
import { Problems, problemsOf, showPath, type SettingPath } from "./problems.js";
import { API_VERSION, documentSchema, KIND, type Document } from "./schema.js";
import {
  pinSourcesOf,
  resolveTokens,
  type TokenDraft,
  type TokenList,
  type TokenSettings,
} from "./tokens.js";
import { validParts, type ValidParts } from "./valid-parts.js";

export type { Flags } from "./flags.js";
export type { TokenSettings } from "./tokens.js";

export interface SocketSettings {
  /** An absolute path; of an abstract socket its name without the "@". */
  readonly path: string;
  readonly abstract: boolean;
  /** Permission bits, with none set for other users. */
  readonly mode: number;
  /** A name or a number. */
  readonly group?: string;
}

export interface Settings {
  /** Always present for `serve`. */
  readonly socket?: SocketSettings;
  /** The KEK's name: `object` in the URI of every token. */
  readonly objectName: string;
  /** The preferred token first, then the failover tokens in order. */
  readonly tokens: TokenList;
  /** A key_id or a CKA_ID in hex. */
  readonly pinnedKey?: string;
  /** Labels. */
  readonly allowUnprotected: readonly string[];
  readonly refreshIntervalMs: number;
  readonly mode: Document["mode"];
  readonly mechanism: Document["mechanism"];
  readonly localKek: { readonly maxAgeMs: number; readonly maxUses: number };
  readonly cache: {
    readonly entries: number;
    readonly ttlMs: number;
    /** No effect if shorter than `ttlMs`. */
    readonly outageTtlMs: number;
    /** Whether the state directory stores the ciphertexts of cached seeds. */
    readonly remember: boolean;
  };
  readonly hsm: {
    readonly requestTimeoutMs: number;
    readonly startTimeoutMs: number;
    readonly hosts: number;
    /** Per token host. */
    readonly sessions: number;
    readonly queue: number;
    readonly allowFinalTry: boolean;
  };
  readonly health: {
    readonly outageGracePeriodMs: number;
    readonly onHsmLoss: Document["health"]["onHsmLoss"];
    readonly proofIntervalMs: number;
  };
  /** Absent if the HTTP endpoints are off. */
  readonly http?: HttpAddress;
  /** Always present for `serve`. */
  readonly stateDir?: string;
  /** How long a KEK may be active; absent if no limit is configured. */
  readonly cryptoperiodMs?: number;
  /** Absent if no audit log is configured. */
  readonly audit?: AuditSettings;
  /** Absent if no policy is configured. */
  readonly approvals?: {
    /** Path of the policy. */
    readonly policy: string;
    /** Digest of the policy's first version. */
    readonly root: string;
  };
  /** Every node's plugin, for commands that compare nodes; empty if the configuration names none. */
  readonly nodes: readonly URL[];
  readonly logLevel: Document["log"]["level"];
  /** User whom the token hosts of a command act as, a name or a number; the owner of `stateDir` if absent. */
  readonly actAs?: string;
  /** Groups of that user that the system does not know yet. */
  readonly actAsGroups?: readonly number[];
  /** Problems that do not prevent the use of the settings. */
  readonly warnings: readonly string[];
}

export interface LoadRequest {
  readonly configPath?: string;
  readonly flags: Flags;
  /** Only $CREDENTIALS_DIRECTORY is read. */
  readonly env: NodeJS.ProcessEnv;
  /** The operator gives the PIN to the command; the PIN sources of the tokens are ignored. */
  readonly pinFromStdin?: boolean;
  /** `serve` requires a socket's path and a state directory. */
  readonly serves: boolean;
}

/** The settings, and what they were read from. */
export interface Configuration {
  readonly settings: Settings;
  /** Every option as the schema reads it, including defaults. */
  readonly document: Document;
  /** The options that were given, as they are written. */
  readonly given: unknown;
  readonly origin: Origin;
}

/** Where given settings come from. */
export interface Origin {
  /** The flag by the dotted path of the setting that it overrides. */
  readonly flags: ReadonlyMap<string, string>;
  /** Absent if everything was given by flags. */
  readonly file?: { readonly path: string; readonly positions: Positions };
}

/** A file with more problems is probably not the intended one. */
const MAX_LINES = 100;

/**
 * Returns the settings from the file and the flags.
 * @throws KmsError CONFIG_INVALID, one line per problem:
 * "<flag, or file:line:column: path>: <what is wrong>; <what to do>"
 */
export function loadSettings(request: LoadRequest): Settings {
  return loadConfiguration(request).settings;
}

/** Returns the settings together with what they were read from. @throws KmsError CONFIG_INVALID as loadSettings */
export function loadConfiguration(request: LoadRequest): Configuration {
  const { configPath, flags, env, serves, pinFromStdin = false } = request;
  const file = configPath === undefined ? undefined : readConfigurationFile(configPath);
  const { document: given, names } = overlayFlags(
    file?.document ?? { apiVersion: API_VERSION, kind: KIND, keys: {} },
    flags,
  );
  const origin: Origin = {
    flags: names,
    ...(file !== undefined && { file: { path: configPath ?? "", positions: file.positions } }),
  };
  const problems = new Problems();
  const parsed = documentSchema.safeParse(given);
  if (!parsed.success) problems.addAll(parsed.error.issues.flatMap((issue) => problemsOf(issue, given)));
  const draft = validParts(given);
  checkCombinations(draft, serves, problems);
  const context = { env, uriFromFlag: flags.key !== undefined, pinFromStdin, problems };
  const tokens = resolveTokens(draftsOf(draft), context);
  const lines = problems.lines((at) => nameOf(at, origin));
  if (!parsed.success || !hasOne(tokens) || lines.length > 0) throw invalidLines(lines, MAX_LINES);
  const warnings = [
    ...(file?.warnings ?? []),
    ...tokens.flatMap(pinSourcesOf).flatMap((pin) => permissionWarning(pin) ?? []),
  ];
  const settings = normalise(parsed.data, tokens, [...new Set(warnings)]);
  return { settings, document: parsed.data, given, origin };
}

function nameOf(at: SettingPath, { flags, file }: Origin): string {
  const dotted = showPath(at);
  const flag = flags.get(dotted);
  if (flag !== undefined || file === undefined) return flag ?? dotted;
  const { line, column } = file.positions(at);
  return `${file.path}:${line}:${column}: ${dotted}`;
}

function draftsOf({
  keys,
  module = {},
  pin = {},
  login = {},
  admin = {},
  failover,
}: ValidParts): TokenDraft[] {
  return [{ uri: keys?.uri, module, pin, login, admin }, ...(failover ?? [])];
}

function hasOne(tokens: readonly TokenSettings[]): tokens is TokenList {
  return tokens.length > 0;
}

function cacheOf({ ttl, outageTtl, ...others }: Document["cache"]): Settings["cache"] {
  return { ...others, ttlMs: ttl, outageTtlMs: outageTtl };
}

function hsmOf({ requestTimeout, startTimeout, ...others }: Document["hsm"]): Settings["hsm"] {
  return { ...others, requestTimeoutMs: requestTimeout, startTimeoutMs: startTimeout };
}

function normalise(document: Document, tokens: Settings["tokens"], warnings: readonly string[]): Settings {
  const { socket, keys, localKek, cache, hsm, health, http, stateDir } = document;
  const { policy, root } = document.approvals;
  const audit = auditOf(document);
  return {
    ...(socket.path !== undefined && {
      socket: {
        ...socket.path,
        mode: socket.mode,
        ...(socket.group !== undefined && { group: socket.group }),
      },
    }),
    objectName: keys.uri.object,
    tokens,
    ...(keys.active !== undefined && { pinnedKey: keys.active }),
    ...(keys.cryptoperiod !== undefined && { cryptoperiodMs: keys.cryptoperiod }),
    allowUnprotected: keys.allowUnprotected,
    refreshIntervalMs: keys.refreshInterval,
    mode: document.mode,
    mechanism: document.mechanism,
    localKek: { maxAgeMs: localKek.maxAge, maxUses: localKek.maxUses },
    cache: cacheOf(cache),
    hsm: hsmOf(hsm),
    health: {
      outageGracePeriodMs: health.outageGracePeriod,
      onHsmLoss: health.onHsmLoss,
      proofIntervalMs: health.proofInterval,
    },
    ...(http.address !== undefined && { http: http.address }),
    ...(stateDir !== undefined && { stateDir }),
    ...(audit !== undefined && { audit }),
    ...(policy !== undefined && root !== undefined && { approvals: { policy, root } }),
    nodes: parseNodeAddresses(document.nodes, http.address),
    logLevel: document.log.level,
    warnings,
  };
}
