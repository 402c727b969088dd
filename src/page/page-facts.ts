// What the pages know about a plugin: the answers of its endpoints /readyz, /keys and /metrics, and nothing else.

/** One KEK as a plugin reports it. */
export interface PageKek {
  readonly keyId: string;
  readonly label: string;
  readonly state: "standby" | "due" | "active" | "retired";
  /** ISO 8601; null for a plain label. */
  readonly activation: string | null;
  /** When the last self-test succeeded, ISO 8601. */
  readonly provenAt: string | null;
  /** Why the last self-test failed. */
  readonly failure: string | null;
}

/** The content of /keys that the pages show. */
export interface PageKeyring {
  /** The node's clock, ISO 8601. */
  readonly now: string;
  readonly publishedKeyId: string | null;
  readonly dueKeyId: string | null;
  readonly heldBack: string | null;
  /** When the last successful reading of the token began, ISO 8601. */
  readonly readAt: string | null;
  /** Latest activation first. */
  readonly keys: readonly PageKek[];
}

/** The content of /readyz. */
export interface PageReadiness {
  readonly ready: boolean;
  readonly lines: readonly string[];
}

/** The answers of one plugin. */
export interface PluginFacts {
  readonly readiness: PageReadiness;
  readonly keyring: PageKeyring;
  /** The text of /metrics. */
  readonly metrics: string;
}

/** One node of a fleet; what is undefined was not answered. */
export interface FleetNode {
  readonly url: string;
  /** Why the node does not answer; null if it does. */
  readonly error: string | null;
  readonly version?: string | undefined;
  readonly readiness?: PageReadiness | undefined;
  readonly keyring?: PageKeyring | undefined;
  /** How far the node's clock is ahead of the reader's, in ms. */
  readonly clockAheadMs: number | null;
}

/** What is known of all nodes, with a line for each difference between them. */
export interface FleetFacts {
  /** The reader's clock, in ms since the epoch. */
  readonly now: number;
  readonly nodes: readonly FleetNode[];
  readonly differences: readonly string[];
}
