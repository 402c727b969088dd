// What the plugin tells of its keyring at /keys and in its metrics: public facts of each generation, in the
// words of the design. Other nodes and the rotation commands compare these.
import { stateOf, type Generation, type GenerationState } from "./generations.js";
import type { ActiveKey } from "./active-key.js";
import type { KeyMemory } from "./key-memory.js";
import type { Keyring } from "./keyring.js";
import type { Prover } from "./prover.js";

/** `active`: published, so that Status names it and Encrypt uses it. `due`: active from the next Status call on. */
export type NodeKeyState = GenerationState | "due";

export interface KeyReport {
  readonly keyId: string;
  readonly label: string;
  readonly ckaId: string;
  readonly state: NodeKeyState;
  /** ISO 8601; null for a key without an instant in its label. */
  readonly activation: string | null;
  readonly kind: string;
  readonly mechanism: string | null;
  readonly provenAt: string | null;
  /** Why the last self-test failed; null when it did not. */
  readonly failure: string | null;
  readonly remarks: readonly string[];
  /** Names of the tokens that hold it; null where one token is configured. */
  readonly heldBy: readonly string[] | null;
}

/** When this node's plugin last answered under a key_id, at the latest. ISO 8601; null for never. */
export interface AnswerReport {
  readonly keyId: string;
  readonly statusAt: string | null;
  readonly encryptAt: string | null;
}

export interface KeyringReport {
  /** This node's wall clock, ISO 8601: rotation depends on it. */
  readonly now: string;
  /** What the last Status answered with, and Encrypt uses; before the first one, what it was before the restart. */
  readonly publishedKeyId: string | null;
  /** The same, by the name that earlier releases read. */
  readonly activeKeyId: string | null;
  /** The KEK that waits for a Status call to be published; null when there is none. */
  readonly dueKeyId: string | null;
  /** Why a KEK whose instant has come is not used; null when none is held back. */
  readonly heldBack: string | null;
  /** When the last reading of the token began that succeeded. */
  readonly readAt: string | null;
  /** Since when this node remembers under which key_ids it answered. */
  readonly remembersSince: string;
  readonly answered: readonly AnswerReport[];
  readonly keys: readonly (KeyReport & {
    /** Whether the key came to the token after the memory began, as far as this node has seen. */
    readonly cameLater: boolean;
  })[];
}

export interface KeyringParts {
  readonly keyring: Keyring;
  readonly prover: Prover;
  readonly active: ActiveKey;
  readonly memory: KeyMemory;
}

/** Returns what /keys answers. @param now ms since the epoch */
export function reportKeyring(parts: KeyringParts, now: number): KeyringReport {
  const { keyring, active, memory } = parts;
  const published = active.lastPublished?.record.keyId ?? null;
  const { heldBack } = active.choose();
  return {
    now: iso(now),
    publishedKeyId: published,
    activeKeyId: published,
    dueKeyId: dueOf(active)?.record.keyId ?? null,
    heldBack: heldBack?.message ?? null,
    readAt: isoOrNull(keyring.readAt),
    remembersSince: iso(memory.since),
    answered: memory.answered().map(({ keyId, statusAt, encryptAt }) => ({
      keyId,
      statusAt: isoOrNull(statusAt),
      encryptAt: isoOrNull(encryptAt),
    })),
    keys: reportKeys(parts, now).map((key) => ({ ...key, cameLater: memory.isOlderThan(key.keyId) })),
  };
}

/** Returns the generations, latest first. @param now ms since the epoch */
export function reportKeys(
  { keyring, prover, active }: Pick<KeyringParts, "keyring" | "prover" | "active">,
  now: number,
): KeyReport[] {
  const stateNow = nodeStates(active, now);
  return keyring.schedule.generations.map((generation) => {
    const { record, activation } = generation;
    const proof = prover.proofOf(record.keyId);
    return {
      keyId: record.keyId,
      label: record.label,
      ckaId: record.ckaId,
      state: stateNow(generation),
      activation: Number.isFinite(activation) ? iso(activation) : null,
      kind: record.kind,
      mechanism: proof.mechanism?.name ?? null,
      provenAt: proof.provenAt?.toISOString() ?? null,
      failure: proof.failure?.message ?? null,
      remarks: [...record.unprotected, ...record.remarks],
      heldBy: record.heldBy ?? null,
    };
  });
}

function nodeStates(active: ActiveKey, now: number): (generation: Generation) => NodeKeyState {
  const { lastPublished } = active;
  const due = dueOf(active);
  return (generation) => {
    const { keyId } = generation.record;
    if (keyId === lastPublished?.record.keyId) return "active";
    if (keyId === due?.record.keyId) return "due";
    // A KEK that was superseded before it was published is never published.
    return stateOf(generation, due ?? lastPublished, now);
  };
}

/** Returns the generation that the next Status will publish instead of the last one; undefined if none is waiting. */
function dueOf(active: ActiveKey): Generation | undefined {
  const { generation } = active.choose();
  return generation?.record.keyId === active.lastPublished?.record.keyId ? undefined : generation;
}

function iso(instant: number): string {
  return new Date(instant).toISOString();
}

function isoOrNull(instant: number | null | undefined): string | null {
  return instant === null || instant === undefined ? null : iso(instant);
}
