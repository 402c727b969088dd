// The preflight at the end of `kms-pkcs11 init`: `check` with the files that were just written. The KEK may be missing,
// since the next command makes it.
import { loadSettings } from "../../config/load.js";
import type { Settings } from "../../config/settings.js";
import { HSM_NEEDS } from "../../init/hsm-needs.js";
import { readNodeFacts } from "../../init/node-facts.js";
import { CONFIGURATION, PIN_FILE } from "../../init/plan.js";
import { podEnvironment } from "../../init/pod.js";
import type { Answers } from "../../init/values.js";
import { check } from "../check/command.js";
import { Report, type Finding } from "../check/findings.js";
import { operatorAt } from "../operator.js";
import type { Terminal } from "../output.js";

export interface NodeFindings {
  readonly findings: readonly Finding[];
  readonly table: string;
  readonly exitCode: number;
  readonly hasKek: boolean;
}

/** Returns what `check` finds; undefined if the PIN is encrypted, which only the running unit can read. */
export async function checkNode(answers: Answers, terminal: Terminal): Promise<NodeFindings | undefined> {
  if (answers.pin === "encrypted-credential") return undefined;
  const variables =
    answers.runtime === "static-pod" ? podEnvironment(answers) : HSM_NEEDS[answers.hsm].environment;
  for (const [name, value] of Object.entries(variables)) process.env[name] ??= value;
  const report = new Report();
  const plugin = {
    settings: settingsOf(answers),
    configPath: undefined,
    probesApiserver: false,
    report,
    systemdReadsPin: answers.runtime === "systemd",
  };
  await check(plugin, operatorAt(terminal), false);
  const { findings } = report;
  const isOnlyKek = findings.every(({ verdict, subject }) => verdict !== "fail" || subject === "key");
  const hasKek = findings.some(({ verdict, subject }) => verdict === "ok" && subject === "active key");
  return { findings, table: report.describe(), exitCode: isOnlyKek ? 0 : report.exitCode, hasKek };
}

/**
 * The PIN is at the configured path only while the unit runs, or while the pod's link leads there. The library is used as
 * the plugin's user, who owns the state directory, with the group that the pod or the unit will add.
 */
function settingsOf({ hsm, groupId, runtime }: Answers): Settings {
  const loaded = loadSettings({ configPath: CONFIGURATION, flags: {}, env: process.env, serves: true });
  const { group } = HSM_NEEDS[hsm];
  const id = group === undefined ? undefined : (groupId ?? readNodeFacts("/").groupId(group));
  const settings = { ...loaded, actAsGroups: id === undefined ? [] : [id] };
  if (runtime === "static-pod") return settings;
  const [first, ...more] = settings.tokens;
  const pin = { kind: "file", path: PIN_FILE } as const;
  return { ...settings, tokens: [{ ...first, pin }, ...more] };
}
