// What /readyz answers: whether the HSM answers and every KEK works, and what else an operator should know.
import { KmsError } from "../errors.js";
import { DECRYPT_ONLY, type Hsm } from "../hsm/port.js";
import type { ActivationGate } from "./activation-gate.js";
import type { ActiveKey } from "./active-key.js";
import type { KeyReport } from "./key-report.js";
import type { Keyring } from "./keyring.js";
import type { Outage } from "./outage.js";
import type { Provider } from "./provider.js";

/** Whether the HSM answers and every KEK works, and the findings. */
export interface Readiness {
  readonly ready: boolean;
  /** Findings for people, one per line. */
  readonly lines: readonly string[];
}

/** The parts of a provider that the answer depends on. */
export interface ReadinessParts {
  readonly hsm: Pick<Hsm, "state">;
  readonly keyring: Pick<Keyring, "error">;
  readonly active: Pick<ActiveKey, "lastPublished">;
  readonly outage: Pick<Outage, "reason" | "description">;
  readonly provider: Pick<Provider, "peekStatus">;
  readonly keys: readonly KeyReport[];
  readonly gate?: Pick<ActivationGate, "problem"> | undefined;
}

/** Returns whether the HSM answers and every KEK works, whatever Status still answers. */
export function readinessOf(parts: ReadinessParts): Readiness {
  const { outage, provider, keys } = parts;
  const lines: string[] = [];
  if (outage.description !== undefined) lines.push(outage.description);
  try {
    const { healthz } = provider.peekStatus();
    if (healthz !== "ok") lines.push(healthz);
  } catch (error) {
    const { message } = KmsError.from(error);
    if (message !== outage.reason?.message) lines.push(message);
  }
  for (const { keyId, failure } of keys) {
    if (failure !== null) lines.push(`KEK ${keyId}: ${failure}`);
  }
  const ready = lines.length === 0;
  return { ready, lines: [...new Set([...(ready ? ["ok"] : lines), ...findings(parts)])] };
}

/**
 * Returns findings that do not make the plugin unready: the active KEK is not on every token, so that failover would
 * fail; a retired KEK cannot be proven; the token is slow to read, or cannot be read.
 */
function findings({ hsm, keyring: { error }, active, outage, keys, gate }: ReadinessParts): string[] {
  const published = active.lastPublished?.record;
  const state = hsm.state();
  const isAway = outage.reason !== undefined;
  return [
    ...(published?.heldBy === undefined
      ? []
      : published.remarks.map((remark) => `KEK ${published.keyId}: ${remark}`)),
    ...keys
      .filter(
        ({ state, provenAt, remarks }) =>
          state === "retired" && provenAt === null && remarks.includes(DECRYPT_ONLY),
      )
      .map(({ keyId }) => `retired KEK ${keyId}: ${DECRYPT_ONLY}`),
    ...(state.up && state.unread !== undefined ? [state.unread.message] : []),
    ...(error === undefined || isAway ? [] : [`the token's keys cannot be read: ${error.message}`]),
    ...(state.up && state.finding !== undefined ? [state.finding] : []),
    ...(gate?.problem === undefined ? [] : [gate.problem]),
  ];
}
