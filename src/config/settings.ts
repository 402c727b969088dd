// The settings that the plugin and its commands run with: the file, overridden by flags, checked as a whole.
// All problems are told at once. Durations are in milliseconds from here on, and nothing below reads the file
// again.
import { join } from "node:path";
import { KmsError } from "../errors.js";
import { readConfigurationFile } from "./file.js";
import type { HttpAddress } from "./http-address.js";
import { overlayFlags, type Flags } from "./flags.js";
import { describePinSource, permissionWarning } from "./pin-source.js";
import { formatPkcs11Uri } from "./pkcs11-uri.js";
import { Problems, problemsOf } from "./problems.js";
import { redactParameters } from "./redact.js";
import { API_VERSION, documentSchema, KIND, type Document } from "./schema.js";
import { salvage, type Salvaged } from "./valid-parts.js";
import { resolveTokens, type TokenSettings } from "./tokens.js";

export type { Flags } from "./flags.js";
export type { TokenSettings } from "./tokens.js";

export interface SocketSettings {
  /** An absolute path; of an abstract socket its name without the "@". */
  readonly path: string;
  readonly abstract: boolean;
  /** Permission bits; nothing for others. */
  readonly mode: number;
  /** A name or a number. */
  readonly group?: string;
}

export interface Settings {
  /** Present whenever the caller serves. */
  readonly socket?: SocketSettings;
  /** The KEK's name, which all tokens' URIs carry as `object`. */
  readonly objectName: string;
  /** The preferred one first, then the failover ones in their order. */
  readonly tokens: readonly [TokenSettings, ...TokenSettings[]];
  /** A key_id or a CKA_ID in hex. */
  readonly pinnedKey?: string;
  /** Labels. */
  readonly allowUnprotected: readonly string[];
  readonly refreshIntervalMs: number;
  readonly mode: Document["mode"];
  readonly mechanism: Document["mechanism"];
  readonly localKek: { readonly maxAgeMs: number; readonly maxUses: number };
  readonly cache: { readonly entries: number; readonly ttlMs: number };
  readonly hsm: {
    readonly requestTimeoutMs: number;
    readonly startTimeoutMs: number;
    readonly hosts: number;
    /** For each host. */
    readonly sessions: number;
    readonly queue: number;
    readonly allowFinalTry: boolean;
  };
  readonly health: {
    readonly outageGracePeriodMs: number;
    readonly onHsmLoss: Document["health"]["onHsmLoss"];
    readonly proofIntervalMs: number;
  };
  /** Absent when it is off. */
  readonly http?: HttpAddress;
  /** Present whenever the caller serves. */
  readonly stateDir?: string;
  /** Absent when there is no audit log. */
  readonly audit?: {
    readonly file: string;
    readonly keyFile: string;
    readonly maxBytes: number;
    readonly keep: number;
    /** Whether a command that changes a KEK refuses where the log cannot be written. */
    readonly required: boolean;
  };
  readonly logLevel: Document["log"]["level"];
  /** What is not wrong but should be known. */
  readonly warnings: readonly string[];
}

export interface LoadRequest {
  readonly configPath?: string;
  readonly flags: Flags;
  /** Read for $CREDENTIALS_DIRECTORY alone. */
  readonly env: NodeJS.ProcessEnv;
  /** An operator hands the PIN to the command, in place of every token's source. */
  readonly pinFromStdin?: boolean;
  /** `serve` requires a socket's path and a state directory. */
  readonly serves: boolean;
}

/** A file with more problems than that is another file than was meant. */
const MAX_LINES = 100;
const MEBIBYTE = 1024 * 1024;
/** Of the state directory. */
const AUDIT_KEY = "audit.key";

/** @throws KmsError CONFIG_INVALID, one line a problem: "<path>: <what is wrong>; <what would be right>" */
export function loadSettings({
  configPath,
  flags,
  env,
  serves,
  pinFromStdin = false,
}: LoadRequest): Settings {
  const file = configPath === undefined ? undefined : readConfigurationFile(configPath);
  const { document, names } = overlayFlags(
    file?.document ?? { apiVersion: API_VERSION, kind: KIND, keys: {} },
    flags,
  );
  const problems = new Problems();
  const parsed = documentSchema.safeParse(document);
  if (!parsed.success) problems.addAll(parsed.error.issues.flatMap((issue) => problemsOf(issue, document)));
  const draft = salvage(document);
  checkSocket(draft, serves, problems);
  if (serves) checkStateDir(draft, problems);
  checkAudit(draft, problems);
  const drafts = [
    { uri: draft.keys?.uri, module: draft.module ?? {}, pin: draft.pin ?? {} },
    ...(draft.failover ?? []),
  ];
  const tokens = resolveTokens(drafts, { env, uriFromFlag: flags.key !== undefined, pinFromStdin, problems });
  const lines = problems.lines(names);
  if (!parsed.success || !hasOne(tokens) || lines.length > 0) throw invalid(lines);
  const warnings = [...(file?.warnings ?? []), ...tokens.flatMap(({ pin }) => permissionWarning(pin) ?? [])];
  return normalise(parsed.data, tokens, [...new Set(warnings)]);
}

function invalid(lines: readonly string[]): KmsError {
  const more = lines.length - MAX_LINES;
  const shown = more > 0 ? [...lines.slice(0, MAX_LINES), `and: ${more} more problems`] : lines;
  return new KmsError("CONFIG_INVALID", shown.join("\n"));
}

function hasOne(tokens: readonly TokenSettings[]): tokens is readonly [TokenSettings, ...TokenSettings[]] {
  return tokens.length > 0;
}

function checkSocket({ socket }: Salvaged, needed: boolean, problems: Problems): void {
  const path = ["socket", "path"];
  if (needed && socket?.path === undefined && !problems.concern(["socket"])) {
    problems.add({
      at: path,
      text: "is missing; give it or --socket, such as unix:///run/kms-pkcs11/kms.sock",
    });
  }
  if (socket?.path?.abstract === true && socket.allowAbstract === false) {
    problems.add({
      at: path,
      text: "is an abstract socket, which has no access control; give a path, or set socket.allowAbstract to true",
    });
  }
  if (socket?.group !== undefined && socket.mode !== undefined && (socket.mode & 0o060) !== 0o060) {
    problems.add({
      at: ["socket", "group"],
      text: 'cannot connect with this socket.mode; set socket.mode to "0660"',
    });
  }
}

/** Which PINs were refused and which KEK was published must survive a restart. */
function checkStateDir({ stateDir }: Salvaged, problems: Problems): void {
  if (stateDir !== undefined || problems.concern(["stateDir"])) return;
  problems.add({
    at: ["stateDir"],
    text: "is missing; set it or --state-dir to a folder that survives restarts, such as /var/lib/kms-pkcs11",
  });
}

function checkAudit({ audit, stateDir }: Salvaged, problems: Problems): void {
  if (audit?.required === true && audit.file === undefined && !problems.concern(["audit", "file"])) {
    problems.add({
      at: ["audit", "file"],
      text: "is missing; audit.required needs a log that can be written",
    });
  }
  if (audit?.file === undefined || audit.keyFile !== undefined || stateDir !== undefined) return;
  if (!problems.concern(["stateDir"], ["audit", "keyFile"])) {
    problems.add({
      at: ["audit", "keyFile"],
      text: "is missing; give it, or stateDir for a key that is made there",
    });
  }
}

function auditOf({ audit, stateDir }: Document): Settings["audit"] {
  const { file, keyFile = stateDir && join(stateDir, AUDIT_KEY) } = audit;
  if (file === undefined || keyFile === undefined) return undefined;
  const { keep, required } = audit;
  return { file, keyFile, maxBytes: audit.maxMebibytes * MEBIBYTE, keep, required };
}

function normalise(document: Document, tokens: Settings["tokens"], warnings: readonly string[]): Settings {
  const { socket, keys, localKek, cache, hsm, health, http, stateDir } = document;
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
    allowUnprotected: keys.allowUnprotected,
    refreshIntervalMs: keys.refreshInterval,
    mode: document.mode,
    mechanism: document.mechanism,
    localKek: { maxAgeMs: localKek.maxAge, maxUses: localKek.maxUses },
    cache: { entries: cache.entries, ttlMs: cache.ttl },
    hsm: {
      requestTimeoutMs: hsm.requestTimeout,
      startTimeoutMs: hsm.startTimeout,
      hosts: hsm.hosts,
      sessions: hsm.sessions,
      queue: hsm.queue,
      allowFinalTry: hsm.allowFinalTry,
    },
    health: {
      outageGracePeriodMs: health.outageGracePeriod,
      onHsmLoss: health.onHsmLoss,
      proofIntervalMs: health.proofInterval,
    },
    ...(http.address !== undefined && { http: http.address }),
    ...(stateDir !== undefined && { stateDir }),
    ...(audit !== undefined && { audit }),
    logLevel: document.log.level,
    warnings,
  };
}

/** Returns the settings for the log, without secrets; JSON leaves out what is undefined. */
export function effectiveSettings(settings: Settings): object {
  const { socket, tokens } = settings;
  return {
    ...settings,
    socket: socket && { ...socket, mode: socket.mode.toString(8).padStart(4, "0") },
    tokens: tokens.map(({ uri, modulePath, moduleParameters, pin }) => ({
      uri: formatPkcs11Uri(uri),
      modulePath,
      moduleParameters: moduleParameters === undefined ? undefined : redactParameters(moduleParameters),
      pin: describePinSource(pin),
    })),
    warnings: undefined,
  };
}
