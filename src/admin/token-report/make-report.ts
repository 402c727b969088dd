// Makes a token report: exercises the preferred token, draws the conclusions, and leaves out what may identify the
// token unless it was asked for.
import { randomBytes } from "node:crypto";
import { basename } from "node:path";
import type { Settings } from "../../config/settings.js";
import { requireTrustedPaths } from "../../config/trusted-paths.js";
import { TRIAL_PREFIX, type TokenFacts } from "../../hsm/wire-trials.js";
import { VERSION } from "../../version.js";
import type { Operator } from "../operator.js";
import { exercise } from "./exercise.js";
import { concludeFrom } from "./findings.js";
import { TOKEN_REPORT_SCHEMA, type PublicFacts, type TokenReport } from "./report.js";
import { TrialHosts } from "./trial-hosts.js";

/** Approximate number of trials of a report, for the progress. */
const TRIALS = 26;
const RANDOM_BYTES = 4;

/** How to make a report. */
export interface ReportOptions {
  /** Whether to include label, serial number and slot of the token. */
  readonly withIdentity: boolean;
  readonly signal: AbortSignal;
}

/** Exercises the preferred token, with objects that it makes and removes. @throws KmsError, CANCELLED if interrupted */
export async function makeTokenReport(
  settings: Settings,
  operator: Operator,
  { withIdentity, signal }: ReportOptions,
): Promise<TokenReport> {
  requireTrustedPaths(settings, { isCommand: true });
  const label = TRIAL_PREFIX + randomBytes(RANDOM_BYTES).toString("hex");
  operator.notify(
    `makes trial objects whose CKA_LABEL begins with "${label}", and removes them; takes all sessions for a moment`,
  );
  const begunAt = performance.now();
  const at = new Date().toISOString();
  const hosts = new TrialHosts(settings, operator, label);
  const progress = operator.startProgress("trials", TRIALS);
  try {
    const { facts, ...seen } = await exercise({ hosts, label, progress, signal });
    const report: TokenReport = {
      schema: TOKEN_REPORT_SCHEMA,
      madeBy: `kubernetes-kms-pkcs11 ${VERSION}`,
      at,
      seconds: Math.round((performance.now() - begunAt) / 1_000),
      module: basename(settings.tokens[0].modulePath),
      facts: publicFacts(facts),
      identity: withIdentity && facts !== undefined ? identityOf(facts) : "left out",
      ...seen,
      findings: concludeFrom(seen),
    };
    return withIdentity || facts === undefined ? report : withoutNames(report, facts.token);
  } finally {
    progress.end();
    await hosts.stop();
  }
}

function publicFacts(facts: TokenFacts | undefined): PublicFacts {
  if (facts === undefined) return {};
  const { mechanisms, slot } = facts;
  const library = facts.library === undefined ? {} : { library: facts.library };
  const { manufacturer, model, hardware, firmware, flags, maxSessions, pinBytes } = facts.token;
  const token = { manufacturer, model, hardware, firmware, flags, maxSessions, pinBytes };
  if (slot === undefined) return { ...library, token, mechanisms };
  const ofSlot = {
    manufacturer: slot.manufacturer,
    hardware: slot.hardware,
    firmware: slot.firmware,
    flags: slot.flags,
  };
  return { ...library, slot: ofSlot, token, mechanisms };
}

function identityOf({ token, slot }: TokenFacts): { label: string; serial: string; slot: string } {
  return { label: token.label, serial: token.serial, slot: slot?.description ?? "" };
}

/** Replaces the quoted label and the serial number in every text: error messages name the token. */
function withoutNames(report: TokenReport, { label, serial }: TokenFacts["token"]): TokenReport {
  const names = [...(label === "" ? [] : [`"${label}"`]), ...(serial.length < 4 ? [] : [serial])];
  return JSON.parse(JSON.stringify(report), (_key, value: unknown) =>
    typeof value === "string"
      ? names.reduce((text, name) => text.replaceAll(name, "(left out)"), value)
      : value,
  ) as TokenReport;
}
