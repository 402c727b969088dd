// The part of `kms-pkcs11 check` that needs the token: login, keys, mechanisms and, on request, the time of an Encrypt.
import { formatPkcs11Uri } from "../../config/pkcs11-uri.js";
import { describeRole } from "../../config/login-role.js";
import { describePinSource } from "../../config/pin-source.js";
import type { Settings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import { mechanismByName, type MechanismName } from "../../hsm/mechanisms.js";
import { DECRYPT_ONLY, PATIENT_CALLER, type KekRecord, type ProbeResult } from "../../hsm/port.js";
import type { TokenHsm } from "../../hsm/token-hsm.js";
import {
  activeAt,
  isCalled,
  readSchedule,
  stateOf,
  type Generation,
  type GenerationState,
  type Schedule,
  type SchedulePolicy,
} from "../../provider/generations.js";
import { schedulePolicy } from "../../compose/provider.js";
import { cryptoperiodFinding } from "../../provider/cryptoperiod.js";
import type { Report } from "./findings.js";
import { checkRights } from "./rights.js";

const SAMPLES = 50;
/** As long as a DEK seed. */
const SEED_BYTES = 32;

/** Adds findings about the token; returns the active KEK and a mechanism that works, or undefined if there is none. */
export async function checkToken(
  settings: Settings,
  hsm: TokenHsm,
  report: Report,
): Promise<UsableKey | undefined> {
  const records = await hsm.listKeks();
  const token = hsm.token();
  report.add("ok", "module", `${settings.tokens[0].modulePath} (${token?.library ?? "unnamed"})`);
  report.add(
    "ok",
    "token",
    `"${token?.label ?? ""}", serial ${token?.serial ?? ""}, ${token?.manufacturer ?? ""} ${token?.model ?? ""}`,
  );
  report.add(
    "ok",
    "PIN",
    token?.loginRequired === true
      ? `${describePinSource(settings.tokens[0].pin)}, role ${describeRole(settings.tokens[0].userType)}`
      : "the token needs no login",
  );
  await checkRights(settings.tokens[0], hsm, report);
  const policy = schedulePolicy(settings);
  const schedule = readSchedule(records, policy);
  const active = checkSchedule(schedule, policy, settings, report);
  if (active !== undefined) checkPinned(schedule, active, settings, report);
  return active && checkKeys(settings, hsm, schedule, active, report);
}

/** Returns the active generation; reports the refused keys, and why none is active. */
function checkSchedule(
  schedule: Schedule,
  policy: SchedulePolicy,
  settings: Settings,
  report: Report,
): Generation | undefined {
  let active: Generation | undefined;
  let problem = "";
  try {
    active = activeAt(schedule, policy, Date.now());
  } catch (error) {
    const { code, message } = KmsError.from(error);
    problem = message;
    report.fail("key", new KmsError(code, `${message} (${formatPkcs11Uri(settings.tokens[0].uri)})`));
  }
  for (const { record, reason } of schedule.refused) {
    if (problem.includes(reason)) continue;
    report.add("warn", "key", `"${record.label}" (key_id ${record.keyId}) is refused: ${reason}`);
  }
  return active;
}

/** Warns if keys.active selects nothing; a key that it fails to select is a failure already. */
function checkPinned(
  { generations }: Schedule,
  { activation }: Generation,
  { pinnedKey }: Settings,
  report: Report,
): void {
  if (pinnedKey === undefined) return;
  const matches = generations.filter(({ record }) => isCalled(record, pinnedKey));
  if (matches.length === 0) {
    const text = `keys.active (${pinnedKey}) matches no key; copy a key_id from 'kms-pkcs11 keys list', or remove it`;
    report.add("warn", "keys.active", text);
  } else if (activation !== -Infinity) {
    const text = "keys.active has no effect, since a KEK with an activation instant is active; remove it";
    report.add("warn", "keys.active", text);
  } else report.add("ok", "keys.active", `selects key_id ${matches[0]?.record.keyId ?? ""}`);
}

export interface UsableKey {
  readonly keyId: string;
  readonly mechanism: MechanismName;
}

async function checkKeys(
  settings: Settings,
  hsm: TokenHsm,
  schedule: Schedule,
  active: Generation,
  report: Report,
): Promise<UsableKey | undefined> {
  let usable: UsableKey | undefined;
  for (const generation of schedule.generations) {
    const { record } = generation;
    const state = stateOf(generation, active, Date.now());
    const name = `"${record.label}" key_id ${record.keyId}`;
    const isActive = generation === active;
    const age = isActive
      ? cryptoperiodFinding(generation.activation, Date.now(), settings.cryptoperiodMs)
      : undefined;
    if (age !== undefined) report.add("warn", "cryptoperiod", `${name}: ${age}`);
    const findings = [...record.unprotected, ...record.remarks];
    if (findings.length === 0) report.add("ok", `${state} key`, name);
    else report.add("warn", `${state} key`, [name, ...findings, replaceKey(state)].join("; "));
    const tried = await hsm.probe(record.keyId, settings.mechanism);
    // The warning above says that it cannot be tried.
    const isUntriable = state === "retired" && record.remarks.includes(DECRYPT_ONLY);
    if (isUntriable && tried.every(({ works }) => !works)) continue;
    const chosen = reportMechanisms(record, tried, settings.mechanism, report);
    if (isActive && chosen !== undefined) usable = { keyId: record.keyId, mechanism: chosen };
  }
  return usable;
}

function replaceKey(state: GenerationState): string {
  return state === "retired"
    ? "migrate what it encrypts with 'kms-pkcs11 etcd migrate', then destroy it"
    : "replace it with 'kms-pkcs11 keys rotate'";
}

/** Returns the first mechanism that works. */
function reportMechanisms(
  { label }: KekRecord,
  tried: readonly ProbeResult[],
  setting: Settings["mechanism"],
  report: Report,
): MechanismName | undefined {
  for (const { mechanism, works, detail } of tried) {
    const result = works ? `${detail}; used` : `does not work: ${detail}`;
    report.add("ok", "mechanism", `"${label}": ${mechanism}: ${result}`);
  }
  const chosen = tried.find(({ works }) => works);
  if (chosen !== undefined) return chosen.mechanism;
  const text =
    setting === "auto"
      ? `"${label}" performs none of the plugin's mechanisms; make another KEK with 'kms-pkcs11 keys rotate'`
      : `"${label}" does not perform ${setting}; set mechanism to auto, or make a KEK for ${setting} with 'kms-pkcs11 keys rotate --mechanism ${setting}'`;
  report.fail("mechanism", new KmsError("MECHANISM_UNSUPPORTED", text));
  return undefined;
}

/**
 * Returns the 99th percentile of Encrypt on the token in ms: the slowest of 50 calls.
 * @throws KmsError if the token does not encrypt
 */
export async function measureEncrypt(hsm: TokenHsm, { keyId, mechanism }: UsableKey): Promise<number> {
  const { id } = mechanismByName(mechanism);
  const request = { keyId, mechanism: id, aad: Buffer.from("check"), data: Buffer.alloc(SEED_BYTES) };
  let slowest = 0;
  for (let sample = 0; sample < SAMPLES; sample++) {
    const begun = performance.now();
    await hsm.encrypt(request, PATIENT_CALLER);
    slowest = Math.max(slowest, performance.now() - begun);
  }
  return slowest;
}
