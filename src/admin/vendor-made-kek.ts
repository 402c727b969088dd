// Makes a generation on a token that does not generate secret keys through PKCS#11: the operator makes it with the
// vendor's tool under the label that the schedule needs, and the command waits until the token shows it.
import { setTimeout } from "node:timers/promises";
import type { TokenSettings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import type { Hsm, KekRecord, ProbeResult } from "../hsm/port.js";
import type { TokenAdministration } from "../hsm/token-hsm.js";
import { readSchedule } from "../provider/generations.js";
import { makeGeneration, type MadeGeneration, type NewGeneration } from "./new-generation.js";
import type { Operator } from "./operator.js";
import { vendorCommand } from "./vendor-tools.js";
import { readBack } from "./read-back.js";

/** Shortest pause between two reloads of the library, in ms, and as a multiple of the last one's duration. */
const POLL_MS = 1_000;
const POLL_SHARE = 2;

export interface VendorWait {
  /** Latest start of the last check, ms since the epoch. */
  readonly until: number;
  /** Ends the wait early. */
  readonly signal: AbortSignal;
}

export type VendorToken = TokenAdministration & Pick<Hsm, "listKeksReloaded" | "probe">;

export interface VendorOrder {
  readonly hsm: VendorToken;
  readonly token: TokenSettings;
  readonly generation: NewGeneration;
  /** Undefined: the command does not wait, and fails with the instruction. */
  readonly wait: VendorWait | undefined;
  readonly operator: Operator;
}

/**
 * Makes a generation and returns it. If the token cannot generate it, tells the operator how to make it with the
 * vendor's tool, waits for it, and returns it.
 * @throws KmsError as `makeGeneration`; GENERATION_UNSUPPORTED with the instruction if the command does not wait;
 *   KEY_MISSING when the key did not appear in time; CANCELLED; KEY_UNSUITABLE when it cannot be used, and it is left
 *   on the token
 */
export async function makeOrAwaitGeneration(order: VendorOrder): Promise<MadeGeneration> {
  const { hsm, token, generation, wait, operator } = order;
  try {
    return await makeGeneration(hsm, generation);
  } catch (error) {
    const { code, message } = KmsError.from(error);
    if (code !== "GENERATION_UNSUPPORTED") throw error;
    const { label, mechanism } = generation;
    const description = hsm.token();
    const refusal = `token "${description?.label ?? ""}" cannot generate secret keys (${message})`;
    const command = vendorCommand({ token: description, label, mechanism, pin: token.pin });
    if (wait === undefined) {
      throw new KmsError(code, `${refusal}; make the KEK with the vendor's tool: ${command}`, error);
    }
    operator.notify(`${refusal}; make the KEK with the vendor's tool:`);
    operator.notify(`  ${command}`);
    operator.notify(`waiting for "${label}" until ${new Date(wait.until).toISOString()}`);
    return awaitGeneration(order, wait);
  }
}

async function awaitGeneration({ hsm, generation }: VendorOrder, wait: VendorWait): Promise<MadeGeneration> {
  const { label, policy, mechanism } = generation;
  const listed = await poll(hsm, label, wait);
  const found = listed.filter((record) => record.label === label);
  const [made, other] = found;
  if (made === undefined) throw notFound(label, wait);
  if (other !== undefined) {
    throw new KmsError(
      "KEY_AMBIGUOUS",
      `the token holds ${found.length} KEKs "${label}" (${found.map(({ keyId }) => keyId).join(", ")}); destroy all but one`,
    );
  }
  const [refusal] = readSchedule([made], policy).refused;
  if (refusal !== undefined) throw unsuitable(made, refusal.reason);
  const results = await hsm.probe(made.keyId, mechanism);
  if (!results.some(({ works }) => works)) throw unsuitable(made, describe(results));
  return { made, listed };
}

/** Polls until a reloaded library shows a KEK with the label or the wait ends, and returns what it showed last. */
async function poll(
  hsm: Pick<Hsm, "listKeksReloaded">,
  label: string,
  { until, signal }: VendorWait,
): Promise<readonly KekRecord[]> {
  for (;;) {
    const startedAt = performance.now();
    const listed = await readBack(hsm);
    const pauseMs = Math.max(POLL_MS, POLL_SHARE * (performance.now() - startedAt));
    const isShown = listed.some((record) => record.label === label);
    if (isShown || signal.aborted || Date.now() + pauseMs > until) return listed;
    await setTimeout(pauseMs, undefined, { signal }).catch(() => undefined);
  }
}

function notFound(label: string, { until, signal }: VendorWait): KmsError {
  const never = `if it is made later, it is a KEK like any other: see 'kms-pkcs11 keys list'`;
  return signal.aborted
    ? new KmsError("CANCELLED", `interrupted before the token showed "${label}"; ${never}`)
    : new KmsError(
        "KEY_MISSING",
        `the token showed no KEK "${label}" by ${new Date(until).toISOString()}; run the command again for a new label; ${never}`,
      );
}

function unsuitable({ keyId, label }: KekRecord, reason: string): KmsError {
  return new KmsError(
    "KEY_UNSUITABLE",
    `"${label}" (key_id ${keyId}) was made and cannot be used: ${reason}; destroy it and make another`,
  );
}

function describe(results: readonly ProbeResult[]): string {
  return results.map(({ mechanism, detail }) => `${mechanism}: ${detail}`).join("; ");
}
