// `kms-pkcs11 approvals deliver`: gives this node the approval of a KEK, which the plugin then activates at its instant.
import type { Command } from "commander";
import { deliverApproval } from "../../admin/approval-delivery.js";
import { parseApproval } from "../../approvals/proposal.js";
import { readDocument } from "../../approvals/document.js";
import { audited } from "../../admin/operator-audit.js";
import { printResult } from "../next-step.js";
import type { Terminal } from "../output.js";
import { operatorAt } from "../operator.js";
import { configHelp, settingsFrom, type SettingsOptions } from "../settings-options.js";

const HELP = `
Run it on every node, as root or as the plugin's user. The plugin reads the approval within keys.refreshInterval; a KEK whose
instant has passed becomes active then. Nodes that already use the KEK and nodes that do not yet can read each other's data.

Example:
  kms-pkcs11 approvals deliver activate.json --config /etc/kms-pkcs11/config.yaml`;

/** Adds `approvals deliver`. */
export function addDeliverCommand(approvals: Command, terminal: Terminal): void {
  approvals
    .command("deliver")
    .description(
      "store the approval of a KEK's activation in this node's state directory, if enough people have signed it",
    )
    .argument("<file>", "the approval")
    .option("-c, --config <file>", configHelp())
    .option("--state-dir <dir>", "state directory; overrides stateDir")
    .addHelpText("after", HELP)
    .action(async (file: string, _local, command: Command) => {
      const options = command.optsWithGlobals<SettingsOptions>();
      const settings = settingsFrom(options, false);
      const approval = parseApproval(readDocument(file));
      const keyId = approval.proposal.keyId ?? "";
      const delivered = await audited(
        settings,
        operatorAt(terminal),
        { operation: "approvals deliver", keyId },
        () => Promise.resolve(deliverApproval(settings, approval)),
        ({ approvers, digest }) => ({ details: { approval: digest, approvers: approvers.join(", ") } }),
      );
      const text = `delivered the approval of KEK ${keyId} by ${delivered.approvers.join(", ")}`;
      const result = { json: { delivered }, text, change: { did: "deliver" } as const };
      printResult(result, options.output, terminal);
    });
}
