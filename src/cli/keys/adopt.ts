// `kms-pkcs11 keys adopt`: gives a key that another tool made, with the plain label, a label with an activation
// instant, so that rotations can follow it. Its value, CKA_ID and key_id do not change.
import type { Command } from "commander";
import { adoptKek } from "../../admin/adopt-kek.js";
import { approvalCheck, requireApprovalEarly } from "../../admin/approval-check.js";
import { withTokens } from "../../admin/command-tokens.js";
import { parseKeyReference } from "../../admin/key-reference.js";
import { audited } from "../../admin/operator-audit.js";
import { changeEvent, changeRows, requireChanged } from "../../admin/token-changes.js";
import { addApprovalOption, type ApprovalOption } from "../approval-option.js";
import { operatorAt } from "../operator.js";
import { printResult } from "../next-step.js";
import type { Terminal } from "../output.js";
import { formatTable } from "../table.js";
import { addKeyOptions, administratorSettings, type SettingsOptions } from "../settings-options.js";
import type { KeysAdoptOutput } from "../output-schema/keys.js";

const HELP = `
Adopting is not needed to rotate: a key with the plain label is superseded by any that has an instant. It never
changes which key is active. With several tokens it relabels the key on each that holds it; repeat the command if a token
failed.

Example:
  kms-pkcs11 keys adopt 0193...c1 --config /etc/kms-pkcs11/config.yaml`;

/** Adds `keys adopt`. */
export function addKeysAdoptCommand(keys: Command, terminal: Terminal): void {
  addApprovalOption(addKeyOptions(keys.command("adopt")))
    .description(
      "give a key made by another tool an activation label, if the tokens allow it; its key_id stays the same",
    )
    .argument("<key_id>", "the key_id, its beginning, a CKA_ID, @active or @retired")
    .addHelpText("after", HELP)
    .action(async (keyId: string, _local, command: Command) => {
      const options = command.optsWithGlobals<SettingsOptions & ApprovalOption>();
      const reference = parseKeyReference("<key_id>", keyId);
      const settings = administratorSettings(options);
      const operator = operatorAt(terminal);
      await requireApprovalEarly(settings, options.approval, "adopt");
      const approve = approvalCheck(settings, options.approval);
      const adopted = await audited(
        settings,
        operator,
        { operation: "keys adopt", keyId },
        (begin) =>
          withTokens(settings, operator, (tokens) =>
            adoptKek({ settings, tokens, reference, approve, begin }),
          ),
        (done) => {
          const { outcome, details } = changeEvent(done.changes);
          return { keyId: done.keyId, outcome, details: { label: done.label, ...details } };
        },
      );
      const { changes, ...result } = adopted;
      const rows =
        changes.tokens.length > 1 ? `\n${formatTable(["", "", ""], changeRows(changes)).trimStart()}` : "";
      const isRepeat = changes.tokens.every(({ outcome }) => outcome === "not needed");
      const did = isRepeat ? "already adopted as" : "adopted as";
      const json = { adopted: result, tokens: changes.tokens } satisfies Omit<KeysAdoptOutput, "next">;
      const text = `${did} "${adopted.label}" (key_id ${adopted.keyId})${rows}`;
      const change = changes.failure === undefined && !isRepeat ? ({ did: "adopt" } as const) : undefined;
      printResult({ json, text, change }, options.output, terminal);
      requireChanged(changes, "adopted");
    });
}
