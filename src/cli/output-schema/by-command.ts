// The schema of each command's JSON output, by the command's name. A command that is in neither table has no schema, which
// a test finds.
import type { z } from "zod";
import * as approvals from "./approvals.js";
import { benchOutput } from "./bench.js";
import { configPrintOutput, configValidateOutput } from "./config.js";
import { custodySplitOutput, custodyTestOutput, lockOutput, unlockOutput } from "./custody.js";
import { etcdGetOutput, etcdMigrateOutput, etcdUsageOutput, etcdVerifyOutput } from "./etcd.js";
import { etcdRecoverOutput } from "./etcd-recover.js";
import { evidenceCollectOutput, evidenceVerifyOutput } from "./evidence.js";
import { drillOutput } from "./drill.js";
import { failureOutput } from "./failure.js";
import * as keys from "./keys.js";
import * as plugin from "./plugin.js";
import { rotationAbortOutput, rotationStatusOutput } from "./rotation.js";
import { tokenReportOutput } from "./token-report.js";

/** A name with a flag is that of the output with this option. */
export const OUTPUT_SCHEMAS: Readonly<Record<string, z.ZodType>> = {
  error: failureOutput,
  init: plugin.initOutput,
  check: plugin.checkOutput,
  "check --token-report": tokenReportOutput,
  "config validate": configValidateOutput,
  "config print": configPrintOutput,
  status: plugin.statusOutput,
  unlock: unlockOutput,
  lock: lockOutput,
  "custody split": custodySplitOutput,
  "custody test": custodyTestOutput,
  // The same facts about the next epoch.
  "custody renew": custodySplitOutput,
  "evidence collect": evidenceCollectOutput,
  "evidence verify": evidenceVerifyOutput,
  conformance: plugin.conformanceOutput,
  console: plugin.consoleOutput,
  "keys create": keys.keysCreateOutput,
  "keys list": keys.keysListOutput,
  "keys rotate": keys.keysRotateOutput,
  "keys adopt": keys.keysAdoptOutput,
  "keys destroy": keys.keysDestroyOutput,
  "rotation status": rotationStatusOutput,
  "rotation abort": rotationAbortOutput,
  "approvals policy init": approvals.policyInitOutput,
  "approvals policy sign": approvals.policySignOutput,
  "approvals policy verify": approvals.policyVerifyOutput,
  "approvals propose": approvals.proposeOutput,
  "approvals sign": approvals.signOutput,
  "approvals show": approvals.showOutput,
  "approvals deliver": approvals.deliverOutput,
  "approvals deliver --nodes": approvals.deliverToNodesOutput,
  "audit verify": plugin.auditVerifyOutput,
  bench: benchOutput,
  "etcd usage": etcdUsageOutput,
  "etcd verify": etcdVerifyOutput,
  "etcd get": etcdGetOutput,
  "etcd migrate": etcdMigrateOutput,
  "etcd recover": etcdRecoverOutput,
  drill: drillOutput,
  version: plugin.versionOutput,
};

/** Commands whose standard output is not a result in JSON, and why. */
export const WITHOUT_SCHEMA: Readonly<Record<string, string>> = {
  completion: "prints a script",
  serve: "prints the log, a JSON object in each line",
  "custody combine": "prints the PIN, for a pipe",
  "rotation run": "prints an event in each line",
  "config schema": "prints a JSON Schema",
};
