// `kms-pkcs11 rotation run`: takes all steps of a rotation. It can be killed at any of them and run again.
import { Option, type Command } from "commander";
import { repeatableNotices, untilInterrupted } from "../../admin/interrupts.js";
import { approvalAmong } from "../../admin/rotation/approvals.js";
import { liveSteps } from "../../admin/rotation/live-steps.js";
import type { RotationOrder, StoredObjects } from "../../admin/rotation/order.js";
import { isBefore, isNamed, STEPS, type Facts, type Goal, type Step } from "../../admin/rotation/position.js";
import { runSteps } from "../../admin/rotation/run-steps.js";
import { goalOf } from "../../admin/rotation/goal.js";
import type { Settings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import { KubeApi } from "../../etcd/kube-api.js";
import { collect } from "../collect-option.js";
import { addLimitOptions, limitsOf, type LimitOptions } from "../etcd/migrate.js";
import { MigrationProgress } from "../etcd/migration-progress.js";
import { optionalEtcd } from "../etcd/optional-etcd.js";
import { activationOf, addActivationOptions, type ActivationOptions } from "../keys/activation-options.js";
import { confirmation } from "../keys/confirm-key-id.js";
import { digestsOf, disuseProofOf, MAX_REPORT_AGE } from "../keys/disuse-options.js";
import { addEveryNodeOption, nodesOf, type NodesOptions } from "../nodes-option.js";
import { operatorAt } from "../operator.js";
import type { Terminal } from "../output.js";
import {
  addKeyOptions,
  addMechanismOption,
  administratorSettings,
  type SettingsOptions,
} from "../settings-options.js";
import { addGoalOptions, addStoredOptions, wishOf, type GoalOptions, type StoredOptions } from "./options.js";
import { reporter, reportEnd } from "./report.js";

interface RunOptions
  extends SettingsOptions, ActivationOptions, NodesOptions, GoalOptions, StoredOptions, LimitOptions {
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly skipClusterCheck?: true;
  readonly abortUnlessConverged?: true;
  readonly until: Step;
  readonly usageReport: readonly string[];
  readonly clusterId: readonly string[];
  readonly approval: readonly string[];
}

const HELP = `
Steps, in this order:
  preflight  checks that tokens, nodes, etcd and the API server answer
  create     makes the next KEK on the first token; it is standby until its activation instant
  wait       waits until every token and node has it and has proven it
  activate   waits for the instant
  confirm    waits until every node publishes its key_id, at most 5 minutes
  migrate    has kube-apiserver rewrite every object that is not under it
  verify     decrypts every object in etcd with the HSM
  retire     destroys retired KEKs, with --destroy-after only

The command can be interrupted or killed at any step. Run it again with the same options, on any machine that reaches tokens,
nodes and etcd: it derives its position from the KEKs on the tokens, the nodes' /keys and a census of etcd, and keeps no file.
It makes no KEK while another is standby, or while the active one is not due: then it continues the rotation to that KEK. Two
runs at the same time end with the same KEK.

A KEK is due if --replace names it, or without --replace after --max-age. With --replace the command can be repeated however
long the rotation takes. For a rotation out of turn, give --replace with the key_id of the active KEK.

Nothing is destroyed without these options:
  --abort-unless-converged  destroys the new KEK before its activation if a token or node lacks it then, as 'keys rotate'
                            does. After a restart of the command, every node must also show that it never used the KEK.
  --destroy-after           destroys each retired KEK (with --replace, only that one) this long after its successor's
                            activation, and at least 5 minutes plus health.outageGracePeriod after it. Immediately before,
                            the command takes a census of etcd and asks every node, as 'keys destroy' does. Backups from
                            before the migration need the KEK: choose at least the time for which they are kept. If it is
                            more than an hour ahead, the command ends, and a later run destroys the KEK.

If approvals.policy requires approvals, give --approval for each: "rotate" needs the label, so give --activate-at too. An
approval of "rotate" is used up when the KEK is about to be made.

Exit code 1: the step that is named could not be completed; correct the reason and run the command again. With --output json,
each event is one line.

Example:
  kms-pkcs11 rotation run --config /etc/kms-pkcs11/config.yaml --activate-in 30m --abort-unless-converged \\
    --nodes http://127.0.0.1:8090,http://127.0.0.1:28090,http://127.0.0.1:38090 \\
    --endpoints https://127.0.0.1:2379 --cacert /etc/kubernetes/pki/etcd/ca.crt \\
    --cert /etc/kubernetes/pki/apiserver-etcd-client.crt --etcd-key /etc/kubernetes/pki/apiserver-etcd-client.key \\
    --kubeconfig /etc/kubernetes/admin.conf`;

/** Adds `rotation run`. */
export function addRotationRunCommand(rotation: Command, terminal: Terminal): void {
  const command = addKeyOptions(rotation.command("run")).description(
    "rotate the KEK: preflight, create, wait, activate, confirm, migrate, verify, retire; run again to continue",
  );
  addEveryNodeOption(addGoalOptions(addActivationOptions(addMechanismOption(command))))
    .addOption(new Option("--until <step>", "the last step to take").choices(STEPS).default("retire"))
    .option(
      "--abort-unless-converged",
      "destroy the new KEK before its activation if a token or node lacks it",
    );
  addLimitOptions(addStoredOptions(command))
    .option("--kubeconfig <file>", "kubeconfig of the cluster; found as by kubectl if omitted")
    .option("--context <name>", "context of the kubeconfig")
    .option("--skip-cluster-check", "continue although it is unknown whether the API server uses this etcd")
    .option(
      "--usage-report <file>",
      "proof for --destroy-after: a report of another etcd; may be repeated",
      collect,
      [],
    )
    .option(
      "--cluster-id <hex>",
      "a cluster that uses the token and needs a report; may be repeated",
      collect,
      [],
    )
    .option("--approval <file>", "approval that approvals.policy requires; may be repeated", collect, [])
    .addHelpText("after", HELP)
    .action(async (_local, invoked: Command) => {
      await run(invoked.optsWithGlobals<RunOptions>(), terminal);
    });
}

async function run(options: RunOptions, terminal: Terminal): Promise<void> {
  const settings = administratorSettings(options);
  const wish = wishOf(options, settings);
  const stored = storedOf(options, terminal);
  const startedAt = Date.now();
  try {
    const result = await untilInterrupted(repeatableNotices(operatorAt(terminal)), async (signal) => {
      const order = await orderOf(options, { settings, stored, signal, terminal });
      return runSteps(liveSteps(order), {
        goal: (facts) => {
          const goal = goalOf(facts, wish);
          const note = continuation(facts, goal);
          if (note !== undefined) order.operator.notify(note);
          return goal;
        },
        last: options.until,
        report: reporter(options.output, terminal),
        signal,
      });
    });
    reportEnd({ ...result, startedAt, last: options.until }, options.output, terminal);
  } finally {
    stored?.api.close();
  }
}

/** Returns why no KEK will be made; undefined if one will. */
function continuation({ keks }: Facts, { replace }: Goal): string | undefined {
  const [newest] = keks;
  if (newest === undefined || (replace !== undefined && isNamed(newest, replace))) return undefined;
  const name = `"${newest.label}" (key_id ${newest.keyIds[0]})`;
  return newest.state === "standby"
    ? `continuing with ${name}, which is standby already`
    : `completing the rotation to ${name}, which is not to be replaced: --replace names another KEK, or it is not due yet`;
}

interface Parts {
  readonly settings: Settings;
  readonly stored: StoredObjects | undefined;
  readonly signal: AbortSignal;
  readonly terminal: Terminal;
}

/** @throws KmsError CONFIG_INVALID */
async function orderOf(
  options: RunOptions,
  { settings, stored, signal, terminal }: Parts,
): Promise<RotationOrder> {
  const operator = operatorAt(terminal);
  const nodes = nodesOf(options, settings);
  if (nodes.length === 0) {
    throw new KmsError("CONFIG_INVALID", "--nodes: is missing; name every node's plugin, or set nodes");
  }
  activationOf(options, Date.now());
  const endpoints = stored?.access.endpoints.join(",");
  // An etcd that only the environment names is required here too.
  const proof = { ...options, ...(endpoints !== undefined && { endpoints }), maxReportAge: MAX_REPORT_AGE };
  return {
    settings,
    nodes,
    operator,
    signal,
    activation: () => activationOf(options, Date.now()),
    guarded: options.abortUnlessConverged === true,
    approve: approvalAmong(settings, options.approval),
    stored,
    proof: disuseProofOf(proof, operator),
    reports: options.approval.length === 0 ? [] : await digestsOf(options.usageReport),
    confirm: confirmation(),
  };
}

/** Returns the stored objects that the run concerns; undefined if it ends before. @throws KmsError CONFIG_INVALID */
function storedOf(options: RunOptions, terminal: Terminal): StoredObjects | undefined {
  const { until, destroyAfter, etcdPrefix, encryptionConfig, resources, skipClusterCheck } = options;
  if (destroyAfter !== undefined && until !== "retire") {
    throw new KmsError("CONFIG_INVALID", `--destroy-after: needs the step retire; omit --until ${until}`);
  }
  if (isBefore(until, "migrate")) return undefined;
  const access = optionalEtcd(options);
  if (access === undefined) {
    throw new KmsError(
      "CONFIG_INVALID",
      "--endpoints: is missing; the migration needs etcd; to end before it, give --until confirm",
    );
  }
  return {
    access,
    api: KubeApi.connect(options),
    migration: {
      ...limitsOf(options),
      prefix: etcdPrefix,
      ...(encryptionConfig !== undefined && { encryptionConfig }),
      ...(resources !== undefined && { resources }),
      skipClusterCheck: skipClusterCheck === true,
      observer: new MigrationProgress(terminal),
    },
  };
}
