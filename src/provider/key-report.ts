// What the plugin tells of its keyring at /keys and in its metrics: public facts of each generation, in the
// words of the design. Other nodes and the rotation commands compare these.
import { stateOf, type GenerationState } from "./generations.js";
import type { ActiveKey } from "./active-key.js";
import type { Keyring } from "./keyring.js";
import type { Prover } from "./prover.js";

export interface KeyReport {
  readonly keyId: string;
  readonly label: string;
  readonly ckaId: string;
  readonly state: GenerationState;
  /** ISO 8601; null for a key without an instant in its label. */
  readonly activation: string | null;
  readonly kind: string;
  readonly mechanism: string | null;
  readonly provenAt: string | null;
  /** Why the last self-test failed; null when it did not. */
  readonly failure: string | null;
  readonly remarks: readonly string[];
}

export interface KeyringReport {
  /** This node's wall clock, ISO 8601: rotation depends on it. */
  readonly now: string;
  /** What the next Status answers with; null while there is none. */
  readonly activeKeyId: string | null;
  /** What the last Status answered with, and Encrypt uses. */
  readonly publishedKeyId: string | null;
  /** Why a KEK that is due is not used; null when none is held back. */
  readonly heldBack: string | null;
  readonly keys: readonly KeyReport[];
}

export function reportKeyring(
  keyring: Keyring,
  prover: Prover,
  active: ActiveKey,
  now: number,
): KeyringReport {
  return {
    now: new Date(now).toISOString(),
    activeKeyId: active.current?.record.keyId ?? null,
    publishedKeyId: active.published?.record.keyId ?? null,
    heldBack: active.heldBack?.message ?? null,
    keys: reportKeys(keyring, prover, active, now),
  };
}

/** The generations, latest first; the active one is what Status answers with. */
export function reportKeys(keyring: Keyring, prover: Prover, active: ActiveKey, now: number): KeyReport[] {
  const current = active.current;
  return keyring.schedule.generations.map((generation) => {
    const { record, activation } = generation;
    const proof = prover.proofOf(record.keyId);
    return {
      keyId: record.keyId,
      label: record.label,
      ckaId: record.ckaId,
      state: stateOf(generation, current, now),
      activation: Number.isFinite(activation) ? new Date(activation).toISOString() : null,
      kind: record.kind,
      mechanism: proof.mechanism?.name ?? null,
      provenAt: proof.provenAt?.toISOString() ?? null,
      failure: proof.failure?.message ?? null,
      remarks: [...record.unprotected, ...record.remarks],
    };
  });
}
