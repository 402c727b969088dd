// The settings of the plugin and its commands, as the rest of the program sees them: checked, and with durations in
// milliseconds. load.ts makes them from the file and the flags; nothing else reads the file.
import type { AuditSettings } from "./audit-settings.js";
import type { Flags } from "./flags.js";
import type { HttpAddress } from "./http-address.js";
import type { Positions } from "./positions.js";
import type { SettingPath } from "./problems.js";
import type { Document } from "./schema.js";
import type { TokenList } from "./tokens.js";

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
  /** Absent if the plugin serves one cluster, which has no name. */
  readonly cluster?: ClusterSettings;
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

/** One of several clusters that a plugin serves. */
export interface ClusterSettings {
  readonly name: string;
  /** Number of its requests that are served at once. */
  readonly requests: number;
  /** The state directory of all clusters, which holds what concerns their tokens. */
  readonly commonStateDir?: string;
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
  /** Name of the cluster whose settings are wanted, if the configuration names several. */
  readonly cluster?: string | undefined;
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
  /** Returns where a setting is written in a document with several clusters; absent without them. */
  readonly written?: (at: SettingPath) => SettingPath;
  /** Absent if everything was given by flags. */
  readonly file?: { readonly path: string; readonly positions: Positions };
}
