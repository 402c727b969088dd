// Adopts a key that another tool made under the plain label: gives it a label with an activation instant, on every
// token that holds it. An adoption that was killed between copy and destruction of the original is completed by the
// next one.
import { schedulePolicy } from "../compose/provider.js";
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import { isSameKek, nameCkaId } from "../hsm/key-id.js";
import type { KekRecord } from "../hsm/port.js";
import { activeAt, readSchedule } from "../provider/generations.js";
import { labelOf } from "../provider/kek-label.js";
import type { ApprovalCheck } from "./approval-check.js";
import type { Token } from "./command-tokens.js";
import type { KeyReference } from "./key-reference.js";
import { findNamedKey, viewKeyring, type KeyringView, type ViewedKey } from "./keyring-view.js";
import type { Begin } from "./operator-audit.js";
import { changeTokens, type Changes } from "./token-changes.js";

/** An adopted key counts as active since this long ago, in ms, so that a node whose clock is behind uses it too. */
const BEFORE_NOW_MS = 3_600_000;

export interface AdoptionOrder {
  readonly settings: Settings;
  readonly tokens: readonly Token[];
  readonly reference: KeyReference;
  /** Requires the approval of the policy, if there is one. */
  readonly approve?: ApprovalCheck;
  readonly begin: Begin;
}

export interface Adopted {
  readonly keyId: string;
  readonly label: string;
  readonly changes: Changes;
}

/**
 * Adopts a key on every token that holds it. Failures of single tokens are in the result.
 * @throws KmsError before any change, when the key does not exist or must not be adopted
 */
export async function adoptKek({
  settings,
  tokens,
  reference,
  approve,
  begin,
}: AdoptionOrder): Promise<Adopted> {
  const now = Date.now();
  const view = viewKeyring(tokens, schedulePolicy(settings), now);
  const key = findNamedKey("<key_id>", reference, view, tokens);
  const record =
    key?.state === "refused" ? undefined : (key?.record ?? interrupted(tokens, reference, settings));
  if (record === undefined) throw notFound(key, tokens, reference);
  const label =
    labelGivenBefore(tokens, record, settings.objectName) ?? newLabel(settings, view, record, now);
  const names = [record.keyId, ...record.aliases];
  const approved = await approve?.({ operation: "adopt", names, label: settings.objectName });
  await begin({ keyId: record.keyId, details: { label, ...approved } });
  const changes = await changeTokens(tokens, record, async ({ hsm }, records, all) => {
    const own = (key && records.find(({ kind }) => kind === record.kind)) ?? record;
    // Keys of an interrupted adoption have a key_id of their own, but the KEK's CKA_ID.
    const isLeft = (one: KekRecord): boolean =>
      one.label === settings.objectName && one.ckaId === own.ckaId && one.ckaId !== "";
    if (!records.some((one) => one.label !== label) && !all.some(isLeft)) return false;
    await hsm.relabel(own.keyId, label);
    return true;
  });
  return { keyId: record.keyId, label, changes };
}

/**
 * Returns a record for a KEK of two keys whose adoption was interrupted between changing their labels: the tokens list
 * two other KEKs, with its CKA_ID. Undefined if no token lists such keys.
 */
function interrupted(
  tokens: readonly Token[],
  { kind, text }: KeyReference,
  { objectName }: Settings,
): KekRecord | undefined {
  if (kind !== "key_id") return undefined;
  const [ckaId = ""] = text.split(".");
  const halves = tokens
    .flatMap(({ records }) => records ?? [])
    .filter((record) => nameCkaId(Buffer.from(record.ckaId, "hex")) === ckaId);
  const renamed = halves.find(({ label }) => label !== objectName);
  return renamed && { ...renamed, keyId: text, aliases: halves.map(({ keyId }) => keyId) };
}

/**
 * Returns the label that an earlier adoption gave the key on one of the tokens: the others get the same one.
 * @throws KmsError TOKEN_REFUSED when it has several such labels
 */
function labelGivenBefore(tokens: readonly Token[], kek: KekRecord, objectName: string): string | undefined {
  const records = tokens.flatMap((token) => token.records ?? []).filter((own) => isSameKek(own, kek));
  const labels = new Set(records.map(({ label }) => label));
  const [given, another] = [...labels].filter((label) => label !== objectName);
  if (given === undefined || another === undefined) return given;
  throw new KmsError(
    "TOKEN_REFUSED",
    `the tokens hold it under several labels: ${[...labels].join(", ")}; give it one of them on every token with the vendor's tool`,
  );
}

function notFound(
  refused: ViewedKey | undefined,
  tokens: readonly Token[],
  { text }: KeyReference,
): KmsError {
  const failure = tokens.find((token) => token.failure !== undefined)?.failure;
  if (failure !== undefined) return failure;
  const why = refused === undefined ? "no token of the configuration holds it" : refused.findings.join("; ");
  return new KmsError("KEY_UNKNOWN", `no usable KEK has key_id ${text}: ${why}`);
}

/**
 * Returns a label with an instant before now and before that of every other generation.
 * @throws KmsError TOKEN_REFUSED when that would change which KEK is active, or make the KEK refused
 */
function newLabel(settings: Settings, { schedule }: KeyringView, record: KekRecord, now: number): string {
  const finite = schedule.generations.map(({ activation }) => activation).filter(Number.isFinite);
  const label = labelOf(
    settings.objectName,
    Math.min(now - BEFORE_NOW_MS, ...finite.map((activation) => activation - 1000)),
  );
  const policy = schedulePolicy(settings);
  const records = schedule.generations.map((one) =>
    one.record === record ? { ...record, label } : one.record,
  );
  const before = activeAt(schedule, policy, now).record.keyId;
  const after = readSchedule(records, policy);
  if (after.refused.length > 0) {
    throw new KmsError(
      "TOKEN_REFUSED",
      `adopting it would take it out of keys.allowUnprotected, which names the label "${record.label}"; list the key_id ${record.keyId} there instead`,
    );
  }
  if (activeAt(after, policy, now).record.keyId === before) return label;
  throw new KmsError(
    "TOKEN_REFUSED",
    `adopting it would make it active instead of ${before}; adopt that one first`,
  );
}
