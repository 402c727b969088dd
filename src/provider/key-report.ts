// Reports the keyring for /keys and the metrics: public facts about each generation. Rotation commands compare the
// reports of all nodes. A report changes nothing.
import { DECRYPT_ONLY, type KekRecord } from "../hsm/port.js";
import { stateOf, type Generation, type GenerationState } from "./generations.js";
import type { ActiveKey } from "./active-key.js";
import type { KeyMemory } from "./key-memory.js";
import type { Keyring } from "./keyring.js";
import type { Proof, Prover } from "./prover.js";

/** `active`: published, so that Encrypt uses it. `due`: active from the next Status call. */
export type NodeKeyState = GenerationState | "due";

/** The public facts about one generation. */
export interface KeyReport {
  readonly keyId: string;
  readonly label: string;
  readonly ckaId: string;
  readonly state: NodeKeyState;
  /** ISO 8601; null for a plain label. */
  readonly activation: string | null;
  readonly kind: string;
  readonly mechanism: string | null;
  readonly provenAt: string | null;
  /** Why the last self-test failed; null if it succeeded, or if the KEK is retired and only decrypts. */
  readonly failure: string | null;
  /** Why it must not become active; null if it may, or if no policy is configured. */
  readonly notApproved: string | null;
  readonly remarks: readonly string[];
  /** Names of the tokens that hold it; null if one token is configured. */
  readonly heldBy: readonly string[] | null;
}

/** Latest times at which Status and Encrypt can have answered under a key_id. ISO 8601; null for never. */
export interface AnswerReport {
  readonly keyId: string;
  readonly statusAt: string | null;
  readonly encryptAt: string | null;
}

/** The document served at /keys. */
export interface KeyringReport {
  /** This node's wall clock, ISO 8601. Rotation depends on it. */
  readonly now: string;
  /**
   * The key_id of the last Status answer, which Encrypt uses; before the first one, the key_id published last before the
   * restart.
   */
  readonly publishedKeyId: string | null;
  /** The same value under the name that earlier releases use. */
  readonly activeKeyId: string | null;
  /** The KEK that the next Status call publishes; null if there is none. */
  readonly dueKeyId: string | null;
  /** Why a due KEK is not used; null if none is held back. */
  readonly heldBack: string | null;
  /** When the last successful reading of the token began. */
  readonly readAt: string | null;
  /** The time since which this node remembers under which key_ids it answered. */
  readonly remembersSince: string;
  readonly answered: readonly AnswerReport[];
  readonly keys: readonly (KeyReport & {
    /** Whether the key came to the token after the memory began, as far as this node knows. */
    readonly cameLater: boolean;
  })[];
}

/** The parts of the provider that a report is read from. */
export interface KeyringParts {
  readonly keyring: Keyring;
  readonly prover: Prover;
  readonly active: ActiveKey;
  readonly memory: KeyMemory;
}

/** Returns the document served at /keys. @param now ms since the epoch */
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

/** Returns one report per generation, latest first. @param now ms since the epoch */
export function reportKeys(
  { keyring, prover, active }: Pick<KeyringParts, "keyring" | "prover" | "active">,
  now: number,
): KeyReport[] {
  const stateNow = nodeStates(active, now);
  return keyring.schedule.generations.map((generation) => {
    const { record, activation } = generation;
    const state = stateNow(generation);
    const proof = prover.proofOf(record.keyId);
    const failure = state === "retired" && onlyDecrypts(record, proof) ? undefined : proof.failure;
    return {
      keyId: record.keyId,
      label: record.label,
      ckaId: record.ckaId,
      state,
      activation: Number.isFinite(activation) ? iso(activation) : null,
      kind: record.kind,
      mechanism: proof.mechanism?.name ?? null,
      provenAt: proof.provenAt?.toISOString() ?? null,
      failure: failure?.message ?? null,
      notApproved: active.refusalOf(generation) ?? null,
      remarks: [...record.unprotected, ...record.remarks],
      heldBy: record.heldBy ?? null,
    };
  });
}

/** Returns whether a self-test failed only because the KEK must not encrypt, and none has succeeded before. */
function onlyDecrypts({ remarks }: KekRecord, { failure, mechanism }: Proof): boolean {
  return (
    remarks.includes(DECRYPT_ONLY) && mechanism === undefined && failure?.code === "MECHANISM_UNSUPPORTED"
  );
}

function nodeStates(active: ActiveKey, now: number): (generation: Generation) => NodeKeyState {
  const { lastPublished } = active;
  const due = dueOf(active);
  return (generation) => {
    const { keyId } = generation.record;
    if (keyId === lastPublished?.record.keyId) return "active";
    if (keyId === due?.record.keyId) return "due";
    // A KEK that is superseded before it was published is never published.
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
