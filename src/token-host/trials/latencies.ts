// Durations of the calls on which the plugin's speed depends, as this thread measures them.
import pkcs11js, { type Handle } from "pkcs11js";
import type { MechanismName } from "../../hsm/mechanisms.js";
import type { Latency, TrialLabel } from "../../hsm/wire-trials.js";
import { keysOf, type Kek } from "../kek.js";
import { PERFORMERS } from "../mechanisms/table.js";
import { TokenSession } from "../session.js";

const SAMPLES = 50;
/** A slow token is measured less often. */
const LEAST_SAMPLES = 3;
const ENOUGH_MS = 1_000;

const TEXT = Buffer.alloc(32, 0x5a);
const AAD = Buffer.from("kms-pkcs11 token report");

/** Measures each call up to 50 times, for about a second. @throws TokenFault when a call fails */
export function measure(
  session: TokenSession,
  kek: Kek,
  { label, mechanism }: TrialLabel & { readonly mechanism: MechanismName },
): readonly Latency[] {
  const performer = PERFORMERS[mechanism];
  const body = performer.encrypt(session, kek, AAD, TEXT);
  return [
    ...measureSession(session),
    ...measureObjects(session, label, keysOf(kek)[0]),
    time(`encrypt, ${mechanism}`, () => performer.encrypt(session, kek, AAD, TEXT)),
    time(`decrypt, ${mechanism}`, () => performer.decrypt(session, kek, AAD, body)),
  ];
}

function measureSession(session: TokenSession): readonly Latency[] {
  const { lib } = session;
  const readState = (): boolean =>
    session.attempt("reading the session (C_GetSessionInfo)", (handle) => lib.C_GetSessionInfo(handle)).ok;
  return [
    ...(readState() ? [time("C_GetSessionInfo", readState)] : []),
    time("C_OpenSession, C_CloseSession", () => {
      const second = new TokenSession(lib, session.slot);
      second.isLoggedIn();
      second.close();
    }),
  ];
}

/** Measures a search and, if there is a key, a reading of its label. */
function measureObjects(session: TokenSession, label: string, key: Handle | undefined): readonly Latency[] {
  const { lib } = session;
  const search = time("C_FindObjectsInit to C_FindObjectsFinal, by label", () => {
    session.run("searching (C_FindObjects)", (handle) => {
      lib.C_FindObjectsInit(handle, [{ type: pkcs11js.CKA_LABEL, value: label }]);
      lib.C_FindObjects(handle, 10);
      lib.C_FindObjectsFinal(handle);
    });
  });
  if (key === undefined) return [search];
  const read = time("C_GetAttributeValue", () => {
    session.run("reading a label (C_GetAttributeValue)", (handle) =>
      lib.C_GetAttributeValue(handle, key, [{ type: pkcs11js.CKA_LABEL }]),
    );
  });
  return [search, read];
}

function time(call: string, work: () => unknown): Latency {
  const samples: number[] = [];
  const begun = performance.now();
  while (samples.length < SAMPLES) {
    const start = performance.now();
    if (samples.length >= LEAST_SAMPLES && start - begun > ENOUGH_MS) break;
    work();
    samples.push(performance.now() - start);
  }
  samples.sort((a, b) => a - b);
  const at = (part: number): number => round(samples[Math.floor(part * (samples.length - 1))] ?? 0);
  return { call, samples: samples.length, q1Ms: at(0.25), medianMs: at(0.5), q3Ms: at(0.75) };
}

function round(ms: number): number {
  return Math.round(ms * 1_000) / 1_000;
}
