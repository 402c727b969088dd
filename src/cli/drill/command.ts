// `kms-pkcs11 drill`: rehearses disaster recovery on a copy, and writes a dated report.
import { Option, type Command } from "commander";
import { z } from "zod";
import { untilInterrupted, type InterruptNotices } from "../../admin/interrupts.js";
import { DEFAULT_CONFIGURATION, locateConfiguration } from "../../config/location.js";
import { chooseCluster } from "../../config/cluster-choice.js";
import { loadConfigurations } from "../../config/load.js";
import type { Configuration } from "../../config/settings.js";
import { runDrill } from "../../drill/drill.js";
import type { Configured } from "../../drill/live.js";
import type { DrillOptions } from "../../drill/stage.js";
import { KmsError } from "../../errors.js";
import { durationOf } from "../duration-option.js";
import { DEFAULT_PREFIX } from "../etcd/options.js";
import { EXIT_NO } from "../exit-code.js";
import { reportFailure } from "../failure.js";
import { operatorAt } from "../operator.js";
import { formatJson, type OutputFormat, type Terminal } from "../output.js";
import type { DrillOutput } from "../output-schema/drill.js";
import { addPinOption, configurationsFrom } from "../settings-options.js";
import { askPlugin } from "../unlock-client.js";
import { describeDrill } from "./describe.js";
import { requireReportFolder, writeDrillReport } from "./report-files.js";

interface Options {
  readonly config?: string;
  readonly cluster?: string;
  readonly key?: string;
  readonly moduleParams?: string;
  readonly stateDir?: string;
  readonly pinStdin?: true;
  readonly as?: string;
  readonly live?: string;
  readonly liveToken?: true;
  readonly snapshot: string;
  readonly skipHashCheck?: true;
  readonly prefix: string;
  readonly to: string;
  readonly etcd?: string;
  readonly etcdutl?: string;
  readonly kubeApiserver?: string;
  readonly wait: string;
  readonly output: OutputFormat;
}

const HELP = `
Steps, each with its time in the report:
  snapshot   opened, its hash verified, its objects counted
  token      opened with the PIN, and its KEKs listed
  keks       every KEK that the snapshot needs found, and proven by a round trip or, if it may only decrypt, by a DEK seed
             in the snapshot
  objects    every object decrypted and authenticated, as by 'etcd verify'
  etcd       the snapshot restored by etcdutl, and a private etcd started on it
  plugin     a private plugin started, with a round trip through its socket
  apiserver  a private API server started on both
  list       every resource that KMS v2 encrypts listed completely
Objects of other providers, and objects in clear of encrypted resources, are reported as not proven, by resource.
A step whose program is missing is not rehearsed, and the report says so. Use the programs of the cluster's release.

The drill stays away from the live cluster. It takes no etcd endpoints and no kubeconfig, and passes neither to its programs. It
refuses a configuration that shares a file, socket or address with the live one (--live), or whose socket has a listener; and
a token with the serial number of a live one, which it compares without a login. Give its configuration a stateDir of its own:
it records refused PINs there, and a wrong PIN costs one attempt. With --live-token it accepts the live token or a copy that
kept its number: it only reads and uses KEKs, and follows the live plugin's record of refused PINs.

etcd listens on sockets in a private folder under $TMPDIR. The API server listens in a network namespace of its own if this user
may make one, otherwise on a free loopback port. The drill removes all of it at the end, and what a killed drill has left.

Exit codes: 0 everything that was rehearsed can be read; 1 something cannot; 2 usage or configuration, or the file is not a
sound snapshot; 3 the HSM or a program does not answer; 130 interrupted.

Example:
  kms-pkcs11 drill --config /etc/kms-pkcs11/drill.yaml --snapshot backup.db --to /var/lib/kms-drills`;

/** Adds `drill`. */
export function addDrillCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command("drill")
    .requiredOption("--snapshot <file>", "the backup to restore: a snapshot of 'etcdctl snapshot save'")
    .requiredOption("--to <folder>", "folder for the report: drill-TIME.json and drill-TIME.txt")
    .option("-c, --config <file>", "configuration of the restored token or the clone, never the live one")
    .option("--cluster <name>", "cluster that is rehearsed, in each of the configurations that names several")
    .option("--key <uri>", "PKCS#11 URI of the KEK on that token; overrides keys.uri")
    .option("--module-params <string>", "string for C_Initialize; overrides module.parameters")
    .option(
      "--state-dir <dir>",
      "state directory of the drill, for its record of refused PINs; overrides stateDir",
    );
  addPinOption(command)
    .option(
      "--live <file>",
      `configuration of the live plugin on this machine, to stay away from it (default: $KMS_PKCS11_CONFIG, or ${DEFAULT_CONFIGURATION}, if there is one)`,
    )
    .option("--live-token", "accept the live token, or one that has or may have its serial number")
    .option("--prefix <prefix>", "kube-apiserver's --etcd-prefix", DEFAULT_PREFIX)
    .option("--skip-hash-check", "accept a snapshot without a hash, such as a copy of member/snap/db")
    .option("--etcd <program>", "etcd; from PATH if omitted")
    .option("--etcdutl <program>", "etcdutl, or up to etcd 3.5 etcdctl; from PATH if omitted")
    .option("--kube-apiserver <program>", "kube-apiserver; from PATH if omitted")
    .option(
      "--wait <duration>",
      "how long to wait for the private API server; at most 1m if objects cannot be read",
      "5m",
    )
    .addOption(new Option("--endpoints <list>").hideHelp())
    .addOption(new Option("--kubeconfig <file>").hideHelp())
    .addHelpText("after", HELP)
    .action(async (_local, used: Command) => {
      requireNoCluster(used);
      await drill(used.optsWithGlobals<Options>(), terminal);
    });
}

function requireNoCluster(command: Command): void {
  const { endpoints, kubeconfig } = command.opts<{ endpoints?: string; kubeconfig?: string }>();
  const given =
    endpoints !== undefined ? "--endpoints" : kubeconfig !== undefined ? "--kubeconfig" : undefined;
  if (given === undefined) return;
  throw new KmsError(
    "CONFIG_INVALID",
    `${given}: a drill connects to no cluster; omit it, and give a snapshot with --snapshot`,
  );
}

async function drill(options: Options, terminal: Terminal): Promise<void> {
  requireReportFolder(options.to);
  const { report, error } = await untilInterrupted(noticesAt(terminal), (signal) =>
    runDrill(drillOptions(options, terminal, signal)),
  );
  if (options.output === "json") terminal.out(formatJson(report satisfies DrillOutput));
  else terminal.out(describeDrill(report));
  // Shown first, since the disk may have become full.
  const path = writeDrillReport(options.to, report, describeDrill(report, Infinity));
  terminal.err(`report: ${path}`);
  if (error !== undefined) reportFailure(error, options.output, terminal);
  else if (!report.passed) process.exitCode = EXIT_NO;
}

function noticesAt(terminal: Terminal): InterruptNotices {
  return {
    operator: operatorAt(terminal),
    first: "interrupted: ending the private processes and removing their files; interrupt again to exit now",
    unfinished: () => "the next drill removes the files that this one leaves",
  };
}

const answerSchema = z.object({ unlocked: z.boolean(), message: z.string() });

function drillOptions(options: Options, terminal: Terminal, signal: AbortSignal): DrillOptions {
  const { etcd, etcdutl, kubeApiserver } = options;
  const progress = terminal.isInteractive;
  return {
    configured: configuredAs(options),
    live: liveConfiguration(options),
    allowsLiveToken: options.liveToken === true,
    snapshot: { file: options.snapshot, skipHashCheck: options.skipHashCheck === true },
    prefix: options.prefix,
    programs: { etcd, etcdutl, apiserver: kubeApiserver },
    readyMs: durationOf("--wait", options.wait, "5m"),
    operator: operatorAt(terminal),
    sendPin: (socket, pin) => askPlugin(socket, pin, answerSchema),
    signal,
    onStep: (step) => {
      if (progress) terminal.err(`step ${step}`);
    },
  };
}

/** The default configuration is that of the live plugin, so the drill's must be named. @throws KmsError CONFIG_INVALID */
function configuredAs(options: Options): Configured {
  if (options.config === undefined && options.key === undefined) {
    throw new KmsError(
      "CONFIG_INVALID",
      "--config: is missing; name a configuration of the restored token or the clone, or give its KEK with --key",
    );
  }
  const { settings, origin } = chosen(configurationsFrom(options, false), options.cluster);
  return { settings, path: origin.file?.path };
}

/** Returns the live plugin's configuration, whose PIN source is never read; undefined if there is none. */
function liveConfiguration({ live, cluster }: Options): Configured | undefined {
  let path = live;
  if (path === undefined) {
    try {
      path = locateConfiguration({}, process.env)?.path;
    } catch {
      return undefined;
    }
  }
  if (path === undefined) return undefined;
  const given = { configPath: path, flags: {}, env: process.env, serves: false };
  try {
    return { settings: chosen(loadConfigurations(given), cluster).settings, path };
  } catch {
    // Its PIN may be a credential of its unit; the drill needs no PIN of the live plugin.
    return { settings: chosen(loadConfigurations({ ...given, pinFromStdin: true }), cluster).settings, path };
  }
}

/** The drill's own configuration often has one cluster, and the live one several. @throws KmsError CONFIG_INVALID */
function chosen(all: readonly Configuration[], cluster: string | undefined): Configuration {
  return chooseCluster(all, all[0]?.settings.cluster === undefined ? undefined : cluster);
}
