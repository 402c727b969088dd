// `kms-pkcs11 check`: the preflight, from the configuration to a round trip in the HSM. Prints one line per finding:
// ok, warn or fail, with what to do. Skips checks that an earlier failure makes pointless.
import type { Command } from "commander";
import { readPin } from "../../config/read-pin.js";
import type { Configuration, Settings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import { checkAsPlugin, type PluginCheck } from "./as-plugin.js";
import { checkEncryption } from "./encryption.js";
import { checkToken, measureEncrypt } from "./token.js";
import { Report } from "./findings.js";
import type { Operator } from "../../admin/operator.js";
import { reportOnToken } from "./token-report.js";
import { operatorAt } from "../operator.js";
import { EXIT_NO } from "../exit-code.js";
import { reportFailure } from "../failure.js";
import { isSupplied } from "../operator-pin.js";
import { formatJson, type Terminal } from "../output.js";
import {
  addClusterOption,
  addPinOption,
  addServeOptions,
  configurationFrom,
  type SettingsOptions,
} from "../settings-options.js";
import { withToken, type Token } from "../../admin/command-tokens.js";
import type { TokenHsm } from "../../hsm/token-hsm.js";
import type { CheckOutput } from "../output-schema/plugin.js";

interface CheckOptions extends SettingsOptions {
  readonly encryptionConfig?: string;
  readonly usageReport?: string;
  readonly tokenReport?: true;
  readonly withIdentity?: true;
  readonly probeApiserver?: true;
}

const HELP = `
Files and sockets are tried as 'serve' uses them, with the rights of the plugin's user; the first line names this user. A
running plugin is not disturbed. --probe-apiserver connects with the user and groups of the running kube-apiserver, or of
/etc/kubernetes/manifests/kube-apiserver.yaml.

--token-report tries on the preferred token everything that the plugin relies on: key templates, searches, attributes,
mechanisms and tampering, sessions, the scope of a login, when new and destroyed keys are seen, and latencies. It needs no
KEK. Its trial keys carry a label that no KEK has; it removes them even after an error or Ctrl-C, and says what it could
not remove. It changes nothing else, and a wrong PIN costs one attempt. It logs in as the plugin does, and as admin to make
and remove keys if that is configured. For a moment it opens up to 64 sessions: do not run it while a plugin needs sessions
of a token that has few. The report holds no PIN and no key; label, serial number and slot are left out unless you give
--with-identity. With -o json it can be sent to the developers of the plugin: see deploy/hsm/README.md. Exit code 1: the token
lacks something that the plugin needs.

Examples:
  kms-pkcs11 check --config /etc/kms-pkcs11/config.yaml --encryption-config /etc/kubernetes/encryption/encryption-configuration.yaml
  kms-pkcs11 check --config /etc/kms-pkcs11/config.yaml --token-report -o json > token-report.json`;

/** Adds `check`. */
export function addCheckCommand(program: Command, terminal: Terminal): void {
  addPinOption(addClusterOption(addServeOptions(program.command("check"))))
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
    .option("--probe-apiserver", "for root: also test whether kube-apiserver's user can open the socket")
    .option("--with-identity", "with --token-report: include label, serial number and slot of the token")
    .addHelpText("after", HELP)
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<CheckOptions>();
      const configuration = configurationFrom(options, false);
      if (options.tokenReport === true) {
        const { output, withIdentity = false } = options;
        const shown = { output, withIdentity };
        const operator = operatorAt(terminal);
        process.exitCode = await reportOnToken(configuration.settings, operator, terminal, shown);
      } else process.exitCode = await printFindings(configuration, options, terminal);
    });
}

/** Returns the exit code. */
async function printFindings(
  { settings, origin }: Configuration,
  options: CheckOptions,
  terminal: Terminal,
): Promise<number> {
  const { encryptionConfig, usageReport, probeApiserver: probesApiserver = false } = options;
  const report = new Report();
  const plugin = { settings, configPath: origin.file?.path, probesApiserver, report };
  const { who, p99Ms } = await check(plugin, operatorAt(terminal), encryptionConfig !== undefined);
  if (encryptionConfig !== undefined) {
    checkEncryption(encryptionConfig, usageReport, settings, p99Ms, report);
  }
  if (options.output === "json") {
    const { findings, counts } = report;
    terminal.out(formatJson({ as: who, findings, counts } satisfies CheckOutput));
    // A program that sees this exit code looks for an error.
    if (report.failure !== undefined && report.exitCode > EXIT_NO) {
      reportFailure(report.failure, options.output, terminal);
    }
  } else terminal.out(`${who}\n\n${report.describe()}`);
  return report.exitCode;
}

/**
 * Adds the findings about configuration, files, token and keys. Returns who checks files and sockets, and the 99th
 * percentile of Encrypt in ms, which is undefined unless `measures` is set and the active KEK works.
 * @param opened the preferred token, if the caller has opened it: another login with a wrong PIN would cost another attempt
 */
export async function check(
  plugin: PluginCheck,
  operator: Operator,
  measures: boolean,
  opened?: Token,
): Promise<{ readonly who: string; readonly p99Ms: number | undefined }> {
  const { settings, report } = plugin;
  report.add("ok", "config", `mode ${settings.mode}, mechanism ${settings.mechanism}`);
  for (const warning of settings.warnings) report.add("warn", "config", warning);
  const { who, mayLoad } = await checkAsPlugin(plugin, operator);
  if (!mayLoad) return { who, p99Ms: undefined };
  const useToken: UseToken = (use) =>
    opened === undefined ? withToken(settings, operator, use) : useOpened(opened, use);
  return { who, p99Ms: await checkHsm(settings, useToken, report, measures) };
}

type UseToken = <T>(use: (hsm: TokenHsm) => Promise<T>) => Promise<T>;

function useOpened<T>({ hsm, failure }: Token, use: (hsm: TokenHsm) => Promise<T>): Promise<T> {
  if (failure !== undefined) throw failure;
  return use(hsm);
}

/** Returns the 99th percentile of Encrypt in ms; undefined unless `measure` is set and the active KEK works. */
async function checkHsm(
  settings: Settings,
  useToken: UseToken,
  report: Report,
  measure: boolean,
): Promise<number | undefined> {
  if (!checkPin(settings, report)) return undefined;
  try {
    return await useToken(async (hsm) => {
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
