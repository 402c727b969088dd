// Replays a token report: turns it into the lines of the fault module's control file with which SoftHSM behaves as the
// reported token did. What SoftHSM cannot do at all cannot be replayed.

import pkcs11js from "pkcs11js";

import { TOKEN_REPORT_SCHEMA, type TokenReport } from "../../src/admin/token-report/report.js";
import type { MechanismTrial, Outcome } from "../../src/hsm/wire-trials.js";

/** The PKCS#11 mechanisms that the plugin uses, by the row of its table. */
const USED: Readonly<Record<string, readonly number[]>> = {
  "aes-gcm": [pkcs11js.CKM_AES_GCM],
  "hmac-kdf": [pkcs11js.CKM_SHA256_HMAC],
  "aes-kwp": [0x210b, 0x210a],
  "aes-cbc-hmac": [pkcs11js.CKM_AES_CBC],
  "rsa-oaep": [pkcs11js.CKM_RSA_PKCS_KEY_PAIR_GEN],
};
const KEY_GENERATION = { aes: pkcs11js.CKM_AES_KEY_GEN, hmac: pkcs11js.CKM_GENERIC_SECRET_KEY_GEN } as const;
/** True on SoftHSM for the keys that it generates. */
const USUALLY_TRUE = ["CKA_LOCAL", "CKA_NEVER_EXTRACTABLE"];

/** Returns the control lines that make SoftHSM behave as reported. Throws for a report of another version. */
export function rulesOf(report: TokenReport): string[] {
  const schema: string = report.schema;
  if (schema !== TOKEN_REPORT_SCHEMA) throw new Error(`${schema} is not ${TOKEN_REPORT_SCHEMA}`);
  return [
    ...mechanismRules(report),
    ...report.mechanisms.flatMap(tamperingRules),
    ...templateRules(report),
    ...lengthRules(report),
    ...labelRules(report),
    ...attributeRules(report),
    ...sessionRules(report),
    ...searchRules(report),
    ...loginRules(report),
    ...(report.visibility.made === "after the library is loaded again" ? ["store-at-load"] : []),
  ];
}

const hex = (value: number): string => `0x${value.toString(16)}`;

/** Returns the CK_RV of an outcome; undefined if it has none. */
function codeOf(outcome: Outcome | undefined): string | undefined {
  return /^0x[0-9a-f]+/.exec(outcome ?? "")?.[0];
}

function typeOf(attribute: string): string {
  const type = (pkcs11js as unknown as Record<string, number>)[attribute];
  if (type === undefined) throw new Error(`${attribute} is not known`);
  return hex(type);
}

function mechanismRules({ facts, mechanisms }: TokenReport): string[] {
  const listed = (facts.mechanisms ?? []).map(Number);
  const absent = [
    ...Object.values(USED).flat(),
    ...Object.values(KEY_GENERATION),
    pkcs11js.CKM_AES_ECB,
  ].filter((type) => listed.length > 0 && !listed.includes(type));
  const refused = mechanisms
    .filter(({ code }) => code === "MECHANISM_UNSUPPORTED")
    .flatMap(({ choice }) => USED[choice] ?? [])
    .filter((type) => listed.includes(type));
  const { gcm } = mechanisms.find(({ choice }) => choice === "aes-gcm") ?? {};
  const isOwnNumber = gcm !== undefined && Number(gcm.ckm) !== pkcs11js.CKM_AES_GCM;
  const hidden = absent.filter((type) => !isOwnNumber || type !== pkcs11js.CKM_AES_GCM);
  return [
    ...(hidden.length > 0 ? [`no-mechanism ${hidden.map(hex).join(",")}`] : []),
    ...(refused.length > 0 ? [`refuse-mechanism ${refused.map(hex).join(",")}`] : []),
    ...(isOwnNumber ? [`gcm-mechanism ${gcm.ckm}`] : []),
    ...mechanisms.flatMap(ivRules),
  ];
}

function ivRules({ mechanism, gcm }: MechanismTrial): string[] {
  const own = gcm?.ownFormat === true ? "-own" : "";
  switch (mechanism) {
    case "aes-gcm-iv-written":
      return ["gcm-iv written"];
    case "aes-gcm-iv-appended":
      return [`gcm-iv appended${gcm?.ivBytes ?? 12}${own}`];
    case "aes-gcm-iv-prepended":
      return [`gcm-iv prepended${own}`];
    default:
      return [];
  }
}

/** The code with which the token refuses a ciphertext that was tampered with. */
function tamperingRules({ choice, flippedBits = [] }: MechanismTrial): string[] {
  const code = codeOf(flippedBits.find(({ at }) => at === "last")?.outcome);
  const call = choice === "aes-gcm" ? "C_Decrypt" : choice === "aes-kwp" ? "C_UnwrapKey" : undefined;
  return code === undefined || code === "0x5" || call === undefined ? [] : [`${call} rv ${code} failed`];
}

function templateRules({ templates }: TokenReport): string[] {
  const keys = templates?.keys ?? [];
  const refused = keys.flatMap((key) => key.refused);
  const rules = refused.flatMap(({ attribute, outcome }) => {
    const [name = "", value = ""] = attribute.split("=");
    const code = codeOf(outcome);
    if (code === undefined || name === "CKA_ID") return [];
    const byte = { false: " 0", true: " 1" }[value] ?? "";
    return [`refuse-attribute ${typeOf(name)} ${code}${byte}`];
  });
  for (const kind of ["aes", "hmac"] as const) {
    const [session, onToken] = [false, true].map((where) =>
      keys.find((key) => key.kind === kind && key.onToken === where),
    );
    const [inSession, atToken] = [codeOf(session?.outcome), codeOf(onToken?.outcome)];
    const tokenAttribute = typeOf("CKA_TOKEN");
    if (inSession !== undefined && onToken?.outcome === "ok") {
      rules.push(`refuse-attribute ${tokenAttribute} ${inSession} 0`);
    }
    if (atToken !== undefined && session?.outcome === "ok") {
      rules.push(`refuse-attribute ${tokenAttribute} ${atToken} 1`);
    }
  }
  const outcomes = keys.map(({ outcome }) => codeOf(outcome));
  const [first] = outcomes;
  if (first !== undefined && outcomes.every((code) => code === first)) {
    rules.push(`C_GenerateKey rv ${first}`);
  }
  return [...new Set(rules)];
}

function lengthRules({ templates }: TokenReport): string[] {
  return (templates?.lengths ?? []).flatMap(({ attribute, kept, refused }) => {
    if (refused === undefined) return [];
    return attribute === "CKA_ID"
      ? [`id-limit ${kept}`]
      : [`label-limit ${kept > 0 ? kept : refused.bytes - 1}`];
  });
}

function labelRules({ templates }: TokenReport): string[] {
  const relabel = codeOf(templates?.relabel);
  const copy = codeOf(templates?.copy);
  return [
    ...(relabel === undefined ? [] : [`C_SetAttributeValue rv ${relabel}`]),
    ...(copy === undefined ? [] : [`C_CopyObject rv ${copy}`]),
  ];
}

function attributeRules({ attributes }: TokenReport): string[] {
  const rules = attributes.flatMap(({ attribute, outcome, value }) => {
    if (attribute === "all at once") return [];
    const code = codeOf(outcome);
    if (code !== undefined) return [`unreadable-attribute ${typeOf(attribute)} ${code}`];
    const isOther = value === "false" && USUALLY_TRUE.includes(attribute);
    return isOther ? [`report-attribute ${typeOf(attribute)} 0`] : [];
  });
  return [...new Set(rules)];
}

function sessionRules({ sessions }: TokenReport): string[] {
  if (sessions === undefined) return [];
  const readOnly = codeOf(sessions.readOnly);
  return [
    ...(sessions.oneMore === "ok" ? [] : [`session-limit ${sessions.open}`]),
    ...(readOnly === undefined || readOnly === "0xb1" ? [] : [`refuse-ro-sessions ${readOnly}`]),
  ];
}

/** CKF_LOGIN_REQUIRED. */
const LOGIN_REQUIRED = 0x4;

function loginRules({ facts, login, sessions }: TokenReport): string[] {
  const isRequired = facts.token === undefined || (Number(facts.token.flags) & LOGIN_REQUIRED) !== 0;
  const flags = isRequired || login.otherLoad === undefined ? [] : [`token-flags ${hex(LOGIN_REQUIRED)} 0`];
  if (sessions?.loginShown === false) return [...flags, "session-state 2"];
  if (sessions?.loginShared === false) return [...flags, "login-per-session"];
  return login.otherLoad === false ? [...flags, "login-per-load"] : flags;
}

/** A search that names the report's keys and returns others ignores an attribute. */
function searchRules({ searches }: TokenReport): string[] {
  const ignores = (search: string): boolean => searches.some((one) => one.search === search && one.others);
  const refuses = searches.find(({ search }) => search === "class, on token, CKA_ID");
  return [
    ...(ignores("another label") ? [`ignore-in-searches ${typeOf("CKA_LABEL")}`] : []),
    ...(ignores("class, on token, CKA_ID") ? [`ignore-in-searches ${typeOf("CKA_ID")}`] : []),
    ...(codeOf(refuses?.outcome) === "0x12" ? [`no-attribute ${typeOf("CKA_ID")}`] : []),
  ];
}

/** Returns the part of a report that a replay repeats: what was found, but not how fast. */
export function behaviourIn({ findings }: TokenReport): readonly string[] {
  return findings
    .filter(({ subject }) => subject !== "latency")
    .map(({ verdict, subject, detail }) => `${verdict} ${subject}: ${detail}`);
}
