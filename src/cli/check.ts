// `kms-pkcs11 check`: the preflight, from the configuration to a round trip in the HSM. One line a finding:
// ok, warn or fail, with what to do. What a failed finding makes pointless is not tried.
import { accessSync, constants, statSync } from "node:fs";
import { dirname } from "node:path";
import type { Command } from "commander";
import { describePinSource, readPin } from "../config/pin-source.js";
import { formatPkcs11Uri } from "../config/pkcs11-uri.js";
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import type { TokenHsm } from "../hsm/token-hsm.js";
import { activeAt, readSchedule, stateOf, type Generation, type Schedule } from "../provider/generations.js";
import { schedulePolicy } from "../serve.js";
import { exitCodeOf } from "./exit-code.js";
import { formatJson, formatTable, type Terminal } from "./output.js";
import { addServeOptions, settingsFrom, type SettingsOptions } from "./settings-options.js";
import { withToken } from "./token.js";

type Verdict = "ok" | "warn" | "fail";

interface Finding {
  readonly verdict: Verdict;
  readonly subject: string;
  readonly detail: string;
}

const OTHERS_MAY_WRITE = 0o022;

export function addCheckCommand(program: Command, terminal: Terminal): void {
  addServeOptions(program.command("check"))
    .description(
      "preflight: config, module, token, PIN, keys, mechanism, round trip, socket folder; exit 0 if all is ok or warn",
    )
    .addHelpText("after", "\nExample:\n  kms-pkcs11 check --config /etc/kms-pkcs11/config.yaml")
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<SettingsOptions>();
      const report = new Report();
      await check(settingsFrom(options, false), report);
      if (options.output === "json") terminal.out(formatJson({ findings: report.findings }));
      else
        terminal.out(
          formatTable(
            ["", "", ""],
            report.findings.map((one) => [one.verdict, one.subject, one.detail]),
          ).trimStart(),
        );
      process.exitCode = report.exitCode;
    });
}

class Report {
  readonly findings: Finding[] = [];
  exitCode = 0;

  add(verdict: Verdict, subject: string, detail: string): void {
    this.findings.push({ verdict, subject, detail });
  }

  /** The worst that was found decides the exit code. */
  fail(subject: string, thrown: unknown): void {
    const error = KmsError.from(thrown);
    this.add("fail", subject, error.message);
    this.exitCode = Math.max(this.exitCode, exitCodeOf(error.code), 1);
  }
}

async function check(settings: Settings, report: Report): Promise<void> {
  report.add("ok", "config", `mode ${settings.mode}, mechanism ${settings.mechanism}`);
  for (const warning of settings.warnings) report.add("warn", "config", warning);
  checkSocketFolder(settings, report);
  checkStateDir(settings, report);
  if (!checkModuleFile(settings, report) || !checkPin(settings, report)) return;
  try {
    await withToken(settings, (hsm) => checkToken(settings, hsm, report));
  } catch (error) {
    report.fail(subjectOf(KmsError.from(error)), error);
  }
}

function subjectOf(error: KmsError): string {
  if (error.code === "MODULE_UNUSABLE") return "module";
  return error.code === "PIN_REFUSED" || error.code === "PIN_UNREADABLE" ? "PIN" : "token";
}

function checkSocketFolder(settings: Settings, report: Report): void {
  if (settings.socket === undefined) {
    report.add("warn", "socket", "no socket.path is set; serve needs one");
    return;
  }
  if (settings.socket.abstract) {
    report.add(
      "warn",
      "socket",
      "an abstract socket has no access control: every process on the node can connect",
    );
    return;
  }
  const folder = dirname(settings.socket.path);
  try {
    if ((statSync(folder).mode & OTHERS_MAY_WRITE) === 0) report.add("ok", "socket", `folder ${folder}`);
    else
      report.fail(
        "socket",
        new KmsError("SOCKET_UNUSABLE", `${folder} can be written to by others; chmod go-w it`),
      );
  } catch (error) {
    report.fail(
      "socket",
      new KmsError("SOCKET_UNUSABLE", `${folder} does not exist; create it with mode 0700`, error),
    );
  }
}

function checkStateDir({ stateDir }: Settings, report: Report): void {
  if (stateDir === undefined) {
    report.add(
      "warn",
      "state",
      "no stateDir: a refused PIN is forgotten at a restart, which then costs another attempt",
    );
    return;
  }
  const existing = [stateDir, dirname(stateDir)].find(
    (path) => statSync(path, { throwIfNoEntry: false }) !== undefined,
  );
  try {
    accessSync(existing ?? stateDir, constants.W_OK);
    report.add("ok", "state", stateDir);
  } catch {
    report.add(
      "warn",
      "state",
      `${stateDir} cannot be written to; refused PINs are not remembered over restarts`,
    );
  }
}

function checkModuleFile({ tokens }: Settings, report: Report): boolean {
  const [{ modulePath }] = tokens;
  const stats = statSync(modulePath, { throwIfNoEntry: false });
  if (stats === undefined) {
    report.fail(
      "module",
      new KmsError(
        "MODULE_UNUSABLE",
        `${modulePath} does not exist; install the vendor's client or correct module-path`,
      ),
    );
    return false;
  }
  if ((stats.mode & OTHERS_MAY_WRITE) !== 0)
    report.add("warn", "module", `${modulePath} can be written to by others; chmod go-w it`);
  return true;
}

/** Reads the PIN to see that it can be read; the attempt is made once, by the login. */
function checkPin({ tokens }: Settings, report: Report): boolean {
  const [{ pin }] = tokens;
  try {
    readPin(pin, process.env)?.fill(0);
  } catch (error) {
    report.fail("PIN", error);
    return false;
  }
  if (pin.kind === "none") report.add("warn", "PIN", "no PIN source; the token has to do without a login");
  return true;
}

async function checkToken(settings: Settings, hsm: TokenHsm, report: Report): Promise<void> {
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
    token?.loginRequired === true ? describePinSource(settings.tokens[0].pin) : "the token wants no login",
  );
  const policy = schedulePolicy(settings);
  const schedule = readSchedule(records, policy);
  for (const { record, reason } of schedule.refused)
    report.add("warn", "key", `"${record.label}" is refused: ${reason}`);
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
    return;
  }
  await checkKeys(settings, hsm, schedule, active, report);
}

async function checkKeys(
  settings: Settings,
  hsm: TokenHsm,
  schedule: Schedule,
  active: Generation,
  report: Report,
): Promise<void> {
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
    for (const result of tried) {
      if (result === chosen) report.add("ok", "mechanism", `${result.mechanism}: ${result.detail}; taken`);
      else
        report.add(
          "ok",
          "mechanism",
          `${result.mechanism}: ${result.works ? "works too, comes later in the order" : `not taken: ${result.detail}`}`,
        );
    }
    if (chosen === undefined) {
      report.fail(
        "mechanism",
        new KmsError(
          "MECHANISM_UNSUPPORTED",
          `"${record.label}" performs no mechanism of the table; make one with 'kms-pkcs11 keys create'`,
        ),
      );
    }
  }
}
