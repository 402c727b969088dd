// `kms-pkcs11 check --token-report`: tries everything that the plugin relies on, and prints what the token did.
import { untilInterrupted, type InterruptNotices } from "../../admin/interrupts.js";
import type { Operator } from "../../admin/operator.js";
import { makeTokenReport } from "../../admin/token-report/make-report.js";
import type { TokenReport } from "../../admin/token-report/report.js";
import type { Settings } from "../../config/settings.js";
import { TRIAL_PREFIX } from "../../hsm/wire-trials.js";
import { EXIT_NO } from "../exit-code.js";
import { formatJson, type OutputFormat, type Terminal } from "../output.js";
import { formatTable } from "../table.js";
import type { TokenReportOutput } from "../output-schema/token-report.js";

/** Makes and prints the report. Returns the exit code: 1 if something is missing that the plugin needs. @throws KmsError */
export async function reportOnToken(
  settings: Settings,
  operator: Operator,
  terminal: Terminal,
  { output, withIdentity }: { readonly output: OutputFormat; readonly withIdentity: boolean },
): Promise<number> {
  const report = await untilInterrupted(noticesTo(operator), (signal) =>
    makeTokenReport(settings, operator, { withIdentity, signal }),
  );
  terminal.out(output === "json" ? formatJson(report satisfies TokenReportOutput) : table(report));
  return report.findings.some(({ verdict }) => verdict === "fail") ? EXIT_NO : 0;
}

function noticesTo(operator: Operator): InterruptNotices {
  return {
    operator,
    first: "interrupted; the trial objects are being removed: a second interrupt would leave them",
    unfinished: () => `objects whose CKA_LABEL begins with "${TRIAL_PREFIX}" may be left on the token`,
  };
}

function table({ facts, module, identity, findings, seconds }: TokenReport): string {
  const { library, token } = facts;
  const name =
    identity === "left out"
      ? "label and serial number left out"
      : `"${identity.label}", serial ${identity.serial}`;
  const head: [string, string, string][] = [
    ["", "library", `${library?.description ?? ""} ${library?.version ?? ""} (${module})`],
    [
      "",
      "token",
      `${token?.manufacturer ?? ""} ${token?.model ?? ""}, firmware ${token?.firmware ?? ""}; ${name}`,
    ],
  ];
  const rows = findings.map(({ verdict, subject, detail }) => [verdict, subject, detail]);
  return formatTable(["", "", ""], [...head, ...rows, ["", "time", `${seconds} s`]]).trimStart();
}
