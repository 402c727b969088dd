// `kms-pkcs11 rotation abort`: cancels a rotation before its activation.
import type { Command } from "commander";
import { takeBack } from "../../admin/rotation/abort.js";
import { approvalCheck, requireApprovalEarly } from "../../admin/approval-check.js";
import { parseKeyReference } from "../../admin/key-reference.js";
import { KmsError } from "../../errors.js";
import { addApprovalOption, type ApprovalOption } from "../approval-option.js";
import { confirmation } from "../keys/confirm-key-id.js";
import { disuseProofOf, MAX_REPORT_AGE } from "../keys/disuse-options.js";
import { addEveryNodeOption, nodesOf, type NodesOptions } from "../nodes-option.js";
import { operatorAt } from "../operator.js";
import type { Terminal } from "../output.js";
import type { RotationAbortOutput } from "../output-schema/rotation.js";
import { printResult } from "../next-step.js";
import { addKeyOptions, administratorSettings, type SettingsOptions } from "../settings-options.js";
import { addStoredOptions, type StoredOptions } from "./options.js";

type AbortOptions = SettingsOptions & ApprovalOption & NodesOptions & StoredOptions;

const HELP = `
Only a standby KEK can be taken back, until 10 s before its activation instant, and only if every node shows that it never
used it. It is destroyed on every token; nothing else changes. On a terminal the command says what it is about to do, and you
type the key_id. Elsewhere give the key_id as the argument.

What is active cannot be taken back, since objects are under it: 'rotation run --replace KEY_ID' replaces it. Objects that were
rewritten stay readable. A KEK that was destroyed is gone.

Example:
  kms-pkcs11 rotation abort --config /etc/kms-pkcs11/config.yaml \\
    --nodes http://127.0.0.1:8090,http://127.0.0.1:28090,http://127.0.0.1:38090`;

/** Adds `rotation abort`. */
export function addRotationAbortCommand(rotation: Command, terminal: Terminal): void {
  const command = addApprovalOption(addKeyOptions(rotation.command("abort [key_id]"))).description(
    "cancel a rotation before its activation: destroy the standby KEK that nothing uses yet",
  );
  addEveryNodeOption(addStoredOptions(command))
    .addHelpText("after", HELP)
    .action(async (keyId: string | undefined, _local, invoked: Command) => {
      await abort(keyId, invoked.optsWithGlobals<AbortOptions>(), terminal);
    });
}

async function abort(keyId: string | undefined, options: AbortOptions, terminal: Terminal): Promise<void> {
  const reference = keyId === undefined ? undefined : parseKeyReference("[key_id]", keyId);
  if (reference === undefined && !process.stdin.isTTY) {
    throw new KmsError("CONFIG_INVALID", "[key_id]: is missing; without a terminal to ask on, give it");
  }
  const settings = administratorSettings(options);
  const nodes = nodesOf(options, settings);
  if (nodes.length === 0) {
    throw new KmsError(
      "CONFIG_INVALID",
      "--nodes: is missing; every node has to show that it never used the KEK",
    );
  }
  await requireApprovalEarly(settings, options.approval, "destroy");
  const operator = operatorAt(terminal);
  const proof = { ...options, usageReport: [], clusterId: [], maxReportAge: MAX_REPORT_AGE };
  const { key } = await takeBack({
    settings,
    nodes,
    operator,
    reference,
    approve: approvalCheck(settings, options.approval),
    proof: disuseProofOf(proof, operator),
    reports: [],
    confirm: confirmation(),
  });
  const { keyId: destroyed, label } = key.record;
  printResult(
    {
      json: { destroyed: { keyId: destroyed, label } } satisfies Omit<RotationAbortOutput, "next">,
      text: `destroyed "${label}" (key_id ${destroyed})`,
      change: { did: "destroy", state: "standby" },
    },
    options.output,
    terminal,
  );
}
