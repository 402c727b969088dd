// `kms-pkcs11 check`: the preflight, from the configuration to a round trip in the HSM. Prints one line per finding:
// ok, warn or fail, with what to do. Skips checks that an earlier failure makes pointless.
import { accessSync, constants, statSync } from "node:fs";
import { dirname } from "node:path";
import type { Command } from "commander";
import { readPin } from "../../config/read-pin.js";
import type { Settings } from "../../config/settings.js";
import { untrustedPaths, type PathProblem } from "../../config/trusted-paths.js";
import { KmsError } from "../../errors.js";
import { checkEncryption } from "./encryption.js";
import { checkToken, measureEncrypt } from "./token.js";
import { findingsTable, Report } from "./findings.js";
import type { Operator } from "../../admin/operator.js";
import { reportOnToken } from "./token-report.js";
import { operatorAt } from "../operator.js";
import { isSupplied } from "../operator-pin.js";
import { formatJson, type Terminal } from "../output.js";
import { addPinOption, addServeOptions, settingsFrom, type SettingsOptions } from "../settings-options.js";
import { withToken } from "../../admin/command-tokens.js";

interface CheckOptions extends SettingsOptions {
  readonly encryptionConfig?: string;
  readonly usageReport?: string;
  readonly tokenReport?: true;
  readonly withIdentity?: true;
}

const HELP = `
--token-report tries on the preferred token everything that the plugin relies on: key templates, searches, attributes,
mechanisms and tampering, sessions, the scope of a login, when new and destroyed keys are seen, and latencies. It needs no
KEK. Its trial keys carry a label that no KEK has; it removes them also after an error or Ctrl-C, and says what it could
not remove. It changes nothing else, and a wrong PIN costs one attempt. It logs in as the plugin does, and as admin to make
and remove keys if that is configured. For a moment it opens up to 64 sessions: do not run it while a plugin needs sessions
of a token that has few. The report holds no PIN and no key; label, serial number and slot are left out unless you give
--with-identity. With -o json it can be sent to the developers of the plugin: see deploy/hsm/README.md. Exit status 1:
something is missing that the plugin needs.

Examples:
  kms-pkcs11 check --config /etc/kms-pkcs11/config.yaml --encryption-config /etc/kubernetes/encryption/encryption-configuration.yaml
  kms-pkcs11 check --config /etc/kms-pkcs11/config.yaml --token-report -o json > token-report.json`;

/** Adds `check`. */
export function addCheckCommand(program: Command, terminal: Terminal): void {
  addPinOption(addServeOptions(program.command("check")))
    .option(
      "--encryption-config <file>",
      "also check kube-apiserver's EncryptionConfiguration against this plugin and its token",
    )
    .option(
      "--usage-report <file>",
      "report of 'etcd usage --report': also check against the objects in etcd",
    )
    .option(
      "--token-report",
      "instead, report in detail how the token behaves: makes trial keys, and removes them",
    )
    .option("--with-identity", "with --token-report: include label, serial number and slot of the token")
    .addHelpText("after", HELP)
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<CheckOptions>();
      const report = new Report();
      const settings = settingsFrom(options, false);
      if (options.tokenReport === true) {
        const { output, withIdentity = false } = options;
        process.exitCode = await reportOnToken(settings, operatorAt(terminal), terminal, {
          output,
          withIdentity,
        });
        return;
      }
      const p99Ms = await check(
        settings,
        operatorAt(terminal),
        report,
        options.encryptionConfig !== undefined,
      );
      if (options.encryptionConfig !== undefined) {
        checkEncryption(options.encryptionConfig, options.usageReport, settings, p99Ms, report);
      }
      if (options.output === "json") terminal.out(formatJson({ findings: report.findings }));
      else terminal.out(findingsTable(report.findings));
      process.exitCode = report.exitCode;
    });
}

/** Adds the findings. Returns the 99th percentile of Encrypt in ms; undefined unless `measure` is set and the active KEK works. */
export async function check(
  settings: Settings,
  operator: Operator,
  report: Report,
  measure: boolean,
): Promise<number | undefined> {
  report.add("ok", "config", `mode ${settings.mode}, mechanism ${settings.mechanism}`);
  for (const warning of settings.warnings) report.add("warn", "config", warning);
  if (!checkPaths(settings, report) || !checkPin(settings, report)) return undefined;
  try {
    return await withToken(settings, operator, async (hsm) => {
      const usable = await checkToken(settings, hsm, report);
      return usable === undefined || !measure ? undefined : measureEncrypt(hsm, usable);
    });
  } catch (error) {
    report.fail(subjectOf(KmsError.from(error)), error);
    return undefined;
  }
}

function subjectOf(error: KmsError): string {
  if (error.code === "MODULE_UNUSABLE") return "module";
  if (error.code === "STATE_UNUSABLE") return "state";
  return error.code === "PIN_REFUSED" || error.code === "PIN_UNREADABLE" ? "PIN" : "token";
}

/** Returns whether the module may be loaded. */
function checkPaths(settings: Settings, report: Report): boolean {
  const { socket, stateDir, audit } = settings;
  const problems = untrustedPaths(settings, { isCommand: true });
  const isFine = (subject: string): boolean => problems.every((problem) => problem.subject !== subject);
  if (socket === undefined) {
    report.add("warn", "socket", "socket.path is missing; serve requires it: set it or --socket");
  } else if (socket.abstract) {
    report.add(
      "warn",
      "socket",
      "an abstract socket has no access control: every process on the node can connect; set socket.path to a file",
    );
  } else if (isFine("socket")) report.add("ok", "socket", `folder ${dirname(socket.path)}`);
  if (stateDir === undefined) {
    report.add(
      "warn",
      "state",
      "stateDir is missing; serve requires it, and without it every command tries a refused PIN again: set it or --state-dir",
    );
  } else if (isFine("state")) checkWritable(stateDir, report);
  if (audit !== undefined && isFine("audit")) report.add("ok", "audit", `key in ${dirname(audit.keyFile)}`);
  for (const { subject, error } of problems) report.fail(subject, error);
  warnOfAnotherUser(settings, problems, report);
  return isFine("module");
}

/**
 * Adds a warning for paths that are safe only if the plugin runs as their owner: root does not know the plugin's user.
 */
function warnOfAnotherUser(settings: Settings, failed: readonly PathProblem[], report: Report): void {
  const known = new Set(failed.map(({ error }) => error.message));
  for (const { subject, error } of untrustedPaths(settings, { isCommand: false })) {
    if (!known.has(error.message)) {
      report.add("warn", subject, `a problem unless the plugin runs as that user: ${error.message}`);
    }
  }
}

function checkWritable(stateDir: string, report: Report): void {
  const existing = [stateDir, dirname(stateDir)].find(
    (path) => statSync(path, { throwIfNoEntry: false }) !== undefined,
  );
  try {
    accessSync(existing ?? stateDir, constants.W_OK);
    report.add("ok", "state", stateDir);
  } catch {
    const text = `${stateDir} cannot be written, and a PIN is only tried if the attempt can be recorded there; give this user write access`;
    report.fail("state", new KmsError("STATE_UNUSABLE", text));
  }
}

/** Checks that the PIN can be read, without a PIN attempt; the login makes the only one. */
function checkPin({ tokens }: Settings, report: Report): boolean {
  const [token] = tokens;
  const { pin } = token;
  if (isSupplied(token)) return true;
  try {
    readPin(pin, process.env)?.fill(0);
  } catch (error) {
    report.fail("PIN", error);
    return false;
  }
  if (pin.kind === "none") {
    report.add(
      "warn",
      "PIN",
      "no PIN source is configured; if the token requires a login, add pin-source to the URI",
    );
  }
  return true;
}
