// Gathers what a folder of evidence is made of: from the token, the audit log, this machine and the reports of other commands.
import { hostname } from "node:os";
import { withTokens, type Token } from "../../admin/command-tokens.js";
import { viewKeyring } from "../../admin/keyring-view.js";
import type { Operator } from "../../admin/operator.js";
import { schedulePolicy } from "../../compose/provider.js";
import type { Settings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import { readUsageReport } from "../../etcd/usage-report.js";
import { extractAudit } from "../../evidence/audit-extract.js";
import { readDrillReport } from "../../evidence/drill-report.js";
import type { EvidenceFacts } from "../../evidence/facts.js";
import { runningVersions } from "../../evidence/packages.js";
import { readVerification } from "../../evidence/verification-file.js";
import { fileError } from "../../files/file-error.js";
import { check } from "../check/command.js";
import { Report } from "../check/findings.js";
import { withAge } from "../keys/list.js";

/** Where to gather from. */
export interface GatherInputs {
  readonly settings: Settings;
  readonly configPath: string | undefined;
  readonly usageReport?: string;
  readonly verification?: string;
  readonly drill?: string;
}

/** Returns the facts. @throws KmsError if a source that was given cannot be read; a token that does not answer is a finding */
export async function gather(inputs: GatherInputs, operator: Operator): Promise<EvidenceFacts> {
  const { settings, usageReport, verification, drill } = inputs;
  const usage = usageReport === undefined ? undefined : readUsageReport(usageReport);
  const verified = verification === undefined ? undefined : readVerification(verification);
  const drilled = drill === undefined ? undefined : readDrillReport(drill);
  const audit = await auditFacts(settings);
  return {
    ...(await tokenFacts(inputs, operator)),
    collectedAt: new Date(),
    host: hostname(),
    cryptoperiodMs: settings.cryptoperiodMs,
    audit,
    usage,
    verification: verified,
    drill: drilled,
    versions: await runningVersions(settings.tokens.map(({ modulePath }) => modulePath)),
  };
}

/** Opens the tokens once for both, since every login with a wrong PIN costs an attempt. */
async function tokenFacts(
  { settings, configPath }: GatherInputs,
  operator: Operator,
): Promise<Pick<EvidenceFacts, "keys" | "findings">> {
  return withTokens(settings, operator, async (tokens) => {
    const report = new Report();
    await check({ settings, configPath, probesApiserver: false, report }, operator, false, tokens[0]);
    return { keys: keyFacts(tokens, settings), findings: report.findings };
  });
}

function keyFacts(tokens: readonly Token[], settings: Settings): EvidenceFacts["keys"] {
  const now = Date.now();
  const away = tokens.flatMap(({ name, failure }) =>
    failure === undefined ? [] : [`${name}: ${failure.message}`],
  );
  const view = withAge(viewKeyring(tokens, schedulePolicy(settings), now), settings, now);
  // If no token could be read, nothing is known about its KEKs.
  const problem = away.length < tokens.length ? view.problem : undefined;
  const problems = [...away, ...view.differences, ...(problem === undefined ? [] : [problem.message])];
  const keys = view.keys.map(({ record, state, activation, findings, holders }) => ({
    keyId: record.keyId,
    label: record.label,
    kind: record.kind,
    state,
    activation: activation === undefined ? null : new Date(activation).toISOString(),
    findings,
    tokens: holders,
  }));
  return { keys, problem: problems.length === 0 ? null : problems.join("; ") };
}

async function auditFacts({ audit }: Settings): Promise<EvidenceFacts["audit"]> {
  if (audit === undefined) return undefined;
  try {
    return await extractAudit(audit);
  } catch (error) {
    if (error instanceof KmsError) throw error;
    throw fileError(error) ?? error;
  }
}
