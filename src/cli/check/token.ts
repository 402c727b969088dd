// The part of `kms-pkcs11 check` that needs the token: login, keys, mechanisms and, on request, the time of an Encrypt.
import { formatPkcs11Uri } from "../../config/pkcs11-uri.js";
import { describePinSource } from "../../config/pin-source.js";
import type { Settings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import { mechanismByName, type MechanismName } from "../../hsm/mechanisms.js";
import { PATIENT_CALLER } from "../../hsm/port.js";
import type { TokenHsm } from "../../hsm/token-hsm.js";
import {
  activeAt,
  readSchedule,
  stateOf,
  type Generation,
  type Schedule,
} from "../../provider/generations.js";
import { schedulePolicy } from "../../compose/provider.js";
import type { Report } from "./findings.js";

const SAMPLES = 50;
/** As long as a DEK seed. */
const SEED_BYTES = 32;

/** Adds findings about the token; returns the active KEK and a mechanism that works, or undefined if there is none. */
export async function checkToken(
  settings: Settings,
  hsm: TokenHsm,
  report: Report,
): Promise<AbleKey | undefined> {
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
    token?.loginRequired === true ? describePinSource(settings.tokens[0].pin) : "the token needs no login",
  );
  const policy = schedulePolicy(settings);
  const schedule = readSchedule(records, policy);
  for (const { record, reason } of schedule.refused) {
    report.add("warn", "key", `"${record.label}" is refused: ${reason}`);
  }
  let active: Generation;
  try {
    active = activeAt(schedule, policy, Date.now());
  } catch (error) {
    report.fail(
      "key",
      new KmsError(
        KmsError.from(error).code,
        `${KmsError.from(error).message} (${formatPkcs11Uri(settings.tokens[0].uri)})`,
      ),
    );
    return undefined;
  }
  return checkKeys(settings, hsm, schedule, active, report);
}

export interface AbleKey {
  readonly keyId: string;
  readonly mechanism: MechanismName;
}

async function checkKeys(
  settings: Settings,
  hsm: TokenHsm,
  schedule: Schedule,
  active: Generation,
  report: Report,
): Promise<AbleKey | undefined> {
  let able: AbleKey | undefined;
  for (const generation of schedule.generations) {
    const { record } = generation;
    const subject = `${stateOf(generation, active, Date.now())} key`;
    const findings = [...record.unprotected, ...record.remarks];
    report.add(
      findings.length === 0 ? "ok" : "warn",
      subject,
      [`"${record.label}" key_id ${record.keyId}`, ...findings].join("; "),
    );
    const tried = await hsm.probe(record.keyId, settings.mechanism);
    const chosen = tried.find((result) => result.works);
    if (generation === active && chosen !== undefined) {
      able = { keyId: record.keyId, mechanism: chosen.mechanism };
    }
    for (const result of tried) {
      if (result === chosen) report.add("ok", "mechanism", `${result.mechanism}: ${result.detail}; selected`);
      else {
        report.add(
          "ok",
          "mechanism",
          `${result.mechanism}: ${result.works ? "also works, but comes later in the order" : `not selected: ${result.detail}`}`,
        );
      }
    }
    if (chosen === undefined) {
      report.fail(
        "mechanism",
        new KmsError(
          "MECHANISM_UNSUPPORTED",
          `"${record.label}" works with no supported mechanism; create a key with 'kms-pkcs11 keys create'`,
        ),
      );
    }
  }
  return able;
}

/**
 * Returns the 99th percentile of Encrypt on the token in ms: the slowest of 50 calls.
 * @throws KmsError if the token does not encrypt
 */
export async function measureEncrypt(hsm: TokenHsm, { keyId, mechanism }: AbleKey): Promise<number> {
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
