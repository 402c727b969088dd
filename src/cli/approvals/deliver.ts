// `kms-pkcs11 approvals deliver`: gives this node the approval of a KEK, which the plugin then activates at its instant.
import type { Command } from "commander";
import { deliverApproval } from "../../admin/approval-delivery.js";
import { parseApproval, type Approval } from "../../approvals/proposal.js";
import { refused, refusedOf } from "../../approvals/refused.js";
import { readDocument } from "../../approvals/document.js";
import { audited } from "../../admin/operator-audit.js";
import { printResult } from "../next-step.js";
import { EXIT_NO } from "../exit-code.js";
import { namedNodes, NODES_FLAGS, type NodesOptions } from "../nodes-option.js";
import { formatJson, type Terminal } from "../output.js";
import { formatTable } from "../table.js";
import { operatorAt } from "../operator.js";
import { addClusterOption, configHelp, settingsFrom, type SettingsOptions } from "../settings-options.js";
import type { DeliverOutput, DeliverToNodesOutput } from "../output-schema/approvals.js";

interface DeliverOptions extends SettingsOptions, NodesOptions {}

const HELP = `
Run it on every node, as root or as the plugin's user; "-" reads the approval from standard input. The plugin reads the approval
within keys.refreshInterval; a KEK whose instant has passed becomes active then. Nodes that already use the KEK and nodes that
do not yet can read each other's data.

With --nodes the command delivers to these nodes instead of this one: through ssh to ssh://USER@HOST, where it runs
'kms-pkcs11 approvals deliver -' as that user, with the node's own configuration. Then it asks every plugin whether it may
activate the KEK. It only asks nodes with an HTTP address, which accept no approval over HTTP. Exit code 1 means that a plugin
may not activate the KEK yet.

Example:
  kms-pkcs11 approvals deliver activate.json --config /etc/kms-pkcs11/config.yaml
  kms-pkcs11 approvals deliver activate.json --nodes ssh://root@cp-1,ssh://root@cp-2,ssh://root@cp-3`;

/** Adds `approvals deliver`. */
export function addDeliverCommand(approvals: Command, terminal: Terminal): void {
  addClusterOption(approvals.command("deliver"))
    .description(
      "store the approval of a KEK's activation in this node's state directory, if enough people have signed it",
    )
    .argument("<file>", "the approval, or - for standard input")
    .option("-c, --config <file>", configHelp("--nodes"))
    .option("--state-dir <dir>", "state directory; overrides stateDir")
    .option(NODES_FLAGS, "deliver to these nodes, such as ssh://root@cp-1, and ask their plugins")
    .addHelpText("after", HELP)
    .action(async (file: string, _local, command: Command) => {
      const options = command.optsWithGlobals<DeliverOptions>();
      const text = readDocument(file === "-" ? "/dev/stdin" : file);
      const approval = refusedOf(file, () => parseApproval(text));
      if (options.nodes === undefined) await deliverHere(approval, options, terminal);
      else await deliverThere(approval, options, terminal);
    });
}

async function deliverHere(approval: Approval, options: DeliverOptions, terminal: Terminal): Promise<void> {
  const settings = settingsFrom(options, false);
  const keyId = approval.proposal.keyId ?? "";
  const delivered = await audited(
    settings,
    operatorAt(terminal),
    { operation: "approvals deliver", keyId },
    () => Promise.resolve(deliverApproval(settings, approval)),
    ({ approvers, digest }) => ({ details: { approval: digest, approvers: approvers.join(", ") } }),
  );
  const text = `delivered the approval of KEK ${keyId} by ${delivered.approvers.join(", ")}`;
  const json = { delivered } satisfies Omit<DeliverOutput, "next">;
  const result = { json, text, change: { did: "deliver" } as const };
  printResult(result, options.output, terminal);
}

/** The nodes verify the approval themselves and record its delivery; this machine needs no configuration. */
async function deliverThere(approval: Approval, options: DeliverOptions, terminal: Terminal): Promise<void> {
  const nodes = namedNodes(options) ?? [];
  if (approval.proposal.operation !== "activate") {
    throw refused(`it approves "${approval.proposal.operation}", not the activation`);
  }
  const { deliverToNodes } = await import("../../admin/approval-rollout.js");
  const deliveries = await deliverToNodes(nodes, approval);
  const rows = deliveries.map(({ url, isDelivered, isApproved, problem }) => [
    url,
    isDelivered ? "yes" : "no",
    isApproved === null ? "unknown" : isApproved ? "yes" : "no",
    problem ?? "",
  ]);
  const json = {
    keyId: approval.proposal.keyId,
    nodes: deliveries.map(({ url, isDelivered, isApproved, problem }) => ({
      url,
      delivered: isDelivered,
      approved: isApproved,
      problem,
    })),
  } satisfies DeliverToNodesOutput;
  if (options.output === "json") terminal.out(formatJson(json));
  else terminal.out(formatTable(["NODE", "DELIVERED", "APPROVED", "PROBLEM"], rows));
  if (deliveries.some(({ isApproved }) => isApproved !== true)) process.exitCode = EXIT_NO;
}
