// Decides from the observations whether the plugin can use the token. "fail": something that the plugin needs is missing.
// "warn": the token behaves in an unusual way that the plugin can handle.
import type { AttributeTrial, LengthTrial, Outcome } from "../../hsm/wire-trials.js";
import { mechanismFindings } from "./mechanism-findings.js";
import type { Finding, LoginScope, Observations, Visibility } from "./report.js";

const KEK_ID_BYTES = 16;
/** The longest name of a KEK (15 bytes), "@" and an instant. */
const KEK_LABEL_BYTES = 32;
const INSTANT_BYTES = 17;
/** Length of the trials' own labels. */
const TRIAL_LABEL_BYTES = 25;

const ONE_PROCESS =
  "the library admits one process at a time: set hsm.hosts to 1, and stop the plugin before commands that open the token";

const ok = (subject: string, detail: string): Finding => ({ verdict: "ok", subject, detail });
const warn = (subject: string, detail: string): Finding => ({ verdict: "warn", subject, detail });
const fail = (subject: string, detail: string): Finding => ({ verdict: "fail", subject, detail });

/** Returns the findings in the order in which the trials were made. */
export function concludeFrom(seen: Observations): Finding[] {
  return [
    ...loginFindings(seen),
    ...(seen.exclusive === true ? [warn("processes", ONE_PROCESS)] : []),
    ...seen.rights.map(({ right, outcome }) => ok("rights", `${right}: ${outcome}`)),
    ...keyFindings(seen),
    ...(seen.templates?.lengths ?? []).map(lengthFinding),
    ...labelFindings(seen),
    ...visibilityFindings(seen.visibility),
    ...searchFindings(seen),
    ...attributeFindings(seen.attributes),
    ...mechanismFindings(seen),
    ...sessionFindings(seen),
    ...seen.latencies.map(({ call, samples, q1Ms, medianMs, q3Ms }) =>
      ok("latency", `${call}: median ${medianMs} ms, quartiles ${q1Ms} and ${q3Ms} ms, ${samples} calls`),
    ),
    ...seen.failures.map((failure) => failureFinding(failure, seen)),
    ...seen.leftBehind.map((object) => fail("left behind", `${object}; remove it with the vendor's tool`)),
  ];
}

/** A mechanism that cannot even be tried, since the library crashes or hangs, is not missed if another one works. */
function failureFinding({ trial, reason }: Observations["failures"][number], seen: Observations): Finding {
  const isMissed = !trial.startsWith("mechanism ") || !seen.mechanisms.some(({ works }) => works);
  return (isMissed ? fail : warn)("trial", `${trial}: ${reason}`);
}

function loginFindings({ login, sessions }: Observations): Finding[] {
  if (!login.required && login.otherLoad === undefined) return [ok("login", "the token needs no login")];
  const findings: Finding[] = [];
  if (!login.required) {
    findings.push(
      ok("login", "the token reports that it needs no login; the plugin logs in if it has a PIN"),
    );
  }
  if (login.administrator) findings.push(ok("login", "keys were made with the administrator's login"));
  if (login.otherProcess === true) {
    findings.push(
      warn("login", "a login is shared by processes: anybody who reaches the token may use its keys"),
    );
  }
  return [...findings, ...scopeFindings(login, sessions)];
}

function scopeFindings({ otherLoad }: LoginScope, sessions: Observations["sessions"]): Finding[] {
  if (sessions?.loginShown === false) {
    return [warn("login", "sessions do not show whether they are logged in; the answer of C_Login decides")];
  }
  if (sessions?.loginShared === false) {
    return [warn("login", "a login counts for one session only; the plugin logs in each of its own")];
  }
  if (otherLoad === undefined) return [];
  return [
    ok(
      "login",
      otherLoad ? "one login serves all sessions of a process" : "each load of the library logs in by itself",
    ),
  ];
}

function keyFindings({ templates, keks }: Observations): Finding[] {
  const trials = (templates?.keys ?? []).map(({ kind, onToken, outcome, keyType, refused, bits }) => {
    const what = `${kind} ${onToken ? "on the token" : "in the session"}`;
    if (outcome !== "ok") return warn("keys", `${what}: not made: ${outcome}`);
    const size = bits === undefined ? "" : `, ${bits} bits`;
    const made = `${what}: made (${keyType ?? "unknown type"}${size})`;
    if (refused.length === 0) return ok("keys", made);
    const list = refused.map((one) => `${one.attribute} (${one.outcome})`).join(", ");
    return warn("keys", `${made}; refused: ${list}`);
  });
  const makesNone = keks.length > 0 && keks.every(({ outcome }) => outcome !== "ok");
  return [
    ...trials,
    ...keks.flatMap(({ choice, outcome, kind, remarks = [] }) => {
      if (outcome !== "ok") return [];
      const key = `a KEK for ${choice}: made, kind ${kind ?? ""}`;
      return [remarks.length === 0 ? ok("keks", key) : warn("keks", `${key}; ${remarks.join("; ")}`)];
    }),
    ...(makesNone ? [warn("keks", "the token makes no KEK; make KEKs with the vendor's tool")] : []),
  ];
}

function lengthFinding({ attribute, kept, refused }: LengthTrial): Finding {
  const text =
    refused === undefined
      ? `${attribute} of ${kept} bytes: kept`
      : `${attribute} of ${refused.bytes} bytes: ${refused.outcome}; longest kept: ${kept}`;
  if (attribute === "CKA_ID") {
    return kept >= KEK_ID_BYTES
      ? ok("keys", text)
      : warn("keys", `${text}; the token chooses the id of a KEK`);
  }
  if (kept >= KEK_LABEL_BYTES) return ok("keys", text);
  const name = TRIAL_LABEL_BYTES - INSTANT_BYTES;
  return warn("keys", `${text}; name the KEK with at most ${name} characters`);
}

function labelFindings({ templates }: Observations): Finding[] {
  const { relabel, copy } = templates ?? {};
  if (relabel === undefined || copy === undefined) return [];
  const text = `a key's label: C_SetAttributeValue ${relabel}, C_CopyObject ${copy}`;
  if (relabel === "ok" || copy === "ok") return [ok("keys", text)];
  return [warn("keys", `${text}; 'keys adopt' cannot rename a KEK`)];
}

function visibilityFindings({ made, destroyed, destroyedKey }: Visibility): Finding[] {
  const findings: Finding[] = [];
  if (made !== undefined) {
    const text = `a new key is seen by another process ${made}`;
    findings.push(
      made === "never"
        ? fail("visibility", text)
        : made === "after the library is loaded again"
          ? warn("visibility", `${text}; the plugin reloads it on a schedule`)
          : ok("visibility", text),
    );
  }
  if (destroyed !== undefined) {
    const text = `a destroyed key is dropped by another process ${destroyed}; its handle: ${destroyedKey ?? "not tried"}`;
    const isSeen = destroyed === "at once" && destroyedKey !== "ok";
    findings.push(isSeen ? ok("visibility", text) : warn("visibility", text));
  }
  return findings;
}

/** Readings depend on the search by class on the token; the others only save time. */
function searchFindings({ searches }: Observations): Finding[] {
  return searches.map(({ search, outcome, own, others }) => {
    const expected = search === "another label" ? own === 0 : own > 0;
    const found = expected && outcome === "ok" && !others;
    const problem =
      outcome !== "ok" ? outcome : others ? "returns other objects too" : "does not find the keys";
    if (found) return ok("searches", `${search}: works`);
    // A reading compares labels itself.
    return search === "class, on token"
      ? fail("searches", `${search}: ${problem}`)
      : warn("searches", `${search}: ${problem}`);
  });
}

/** CKR_ATTRIBUTE_SENSITIVE and CKR_ATTRIBUTE_TYPE_INVALID. */
const NOT_SHOWN = /^0x1[12] /;
/** A key is used only if the token shows these. */
const NEEDED: readonly string[] = ["CKA_LABEL", "CKA_ID", "CKA_PRIVATE", "CKA_SENSITIVE", "CKA_EXTRACTABLE"];

function attributeFindings(attributes: readonly AttributeTrial[]): Finding[] {
  const kinds = [...new Set(attributes.map(({ kind }) => kind))];
  return kinds.map((kind) => {
    const unread = attributes.filter((one) => one.kind === kind && one.outcome !== "ok");
    if (unread.length === 0) return ok("attributes", `${kind}: all are shown`);
    const list = unread.map(({ attribute, outcome }) => `${attribute} (${outcome})`).join(", ");
    const isMissing = unread.some(({ attribute, outcome }) => isNeeded(attribute, outcome));
    return isMissing
      ? fail("attributes", `${kind}: not shown: ${list}`)
      : warn("attributes", `${kind}: not shown: ${list}`);
  });
}

function isNeeded(attribute: string, outcome: Outcome): boolean {
  return attribute === "CKA_LABEL" || (NEEDED.includes(attribute) && !NOT_SHOWN.test(outcome));
}

function sessionFindings({ sessions }: Observations): Finding[] {
  if (sessions === undefined) return [];
  const { open, oneMore, afterClosing, readOnly } = sessions;
  const limit =
    oneMore === "ok" ? `${open} at once, and no limit reached` : `${open} at once, then ${oneMore}`;
  return [
    open < 2 ? fail("sessions", limit) : oneMore === "ok" ? ok("sessions", limit) : warn("sessions", limit),
    afterClosing === "ok"
      ? ok("sessions", "after one is closed, another can be opened")
      : fail("sessions", `after one is closed, another cannot be opened: ${afterClosing}`),
    readOnly === "ok"
      ? ok("sessions", "read-only sessions are opened")
      : ok("sessions", `read-only sessions are refused (${readOnly}); the plugin opens read-write ones`),
  ];
}
