// `kms-pkcs11 keys rotate`: makes the next generation of the KEK inside the HSM, which becomes active later. It can
// wait until every token and node has it, and destroy it if one does not.
import type { Command } from "commander";
import { activationAdvice, approvalCheck, requireApprovalEarly } from "../../admin/approval-check.js";
import { withTokens } from "../../admin/command-tokens.js";
import { LEAST_GUARDED_MS } from "../../admin/guarded-rotation.js";
import { keyNotices, untilInterrupted } from "../../admin/interrupts.js";
import { rotateKek } from "../../admin/rotate-kek.js";
import type { Settings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import { addApprovalOption, type ApprovalOption } from "../approval-option.js";
import { addEveryNodeOption, nodesOf, type NodesOptions } from "../nodes-option.js";
import { operatorAt } from "../operator.js";
import type { Terminal } from "../output.js";
import {
  addKeyOptions,
  addMechanismOption,
  administratorSettings,
  type SettingsOptions,
} from "../settings-options.js";
import { activationOf, addActivationOptions, type ActivationOptions } from "./activation-options.js";
import { reportRotation } from "./rotation-report.js";

interface RotateOptions extends SettingsOptions, ApprovalOption, ActivationOptions, NodesOptions {
  readonly dryRun?: true;
  readonly wait?: true;
  readonly abortUnlessConverged?: true;
}

const HELP = `
The key is made on the first token. Clone it to the other tokens of the configuration, and to the tokens of other nodes,
with the vendor's tools before its activation. A node that lacks it then keeps using the previous KEK and cannot read what
the others write.

If the token cannot generate secret keys through PKCS#11 (TPM 2.0), the command prints the vendor's command with the label of
the new KEK, and waits until the token shows that KEK, at most until its activation.

--wait returns as soon as every other token and every node has the key with the same key_id, and every node has proven it.
Exit code 1 means that a token or node did not have it at the activation; the rotation takes place all the same.

--abort-unless-converged checks until 15 s before the activation, by the clock that is furthest ahead; with a slow token it
stops earlier. If a token or node then lacks the key, does not answer, or has failed its self-test, the command destroys the
key and exits with 1. It destroys nothing later than 10 s before the activation, and refuses an activation that is too soon
for a slow token. It never destroys a key that a node already uses. Once the key is made, Ctrl-C, SIGTERM or the end of the
terminal (SIGHUP) ends the wait: the key is destroyed too, unless everything was ready at the last check. If the command is
killed in another way, or its machine fails, the key stays and becomes active: check with 'keys list --nodes', cancel with
'keys destroy KEY_ID --nodes'.

If another command makes a key for the same activation at the same time, the newer key is destroyed unused and its command
exits with 1. A standby KEK that exists already is a warning: it becomes active before the new key.

Example:
  kms-pkcs11 keys rotate --config /etc/kms-pkcs11/config.yaml --activate-in 30m
  kms-pkcs11 keys rotate --config /etc/kms-pkcs11/config.yaml --wait --abort-unless-converged \\
    --nodes http://127.0.0.1:18090,http://127.0.0.1:28090,http://127.0.0.1:38090`;

/** Adds `keys rotate`. */
export function addKeysRotateCommand(keys: Command, terminal: Terminal): void {
  const command = addActivationOptions(
    addApprovalOption(addMechanismOption(addKeyOptions(keys.command("rotate")))),
  )
    .description(
      "make the next KEK inside the HSM; it is standby until its activation instant, then active on every node",
    )
    .option("--dry-run", "print what would be made, and make nothing")
    .option("--wait", "wait until every other token and node has the key");
  addEveryNodeOption(command)
    .option("--abort-unless-converged", "destroy the key before its activation if a token or node lacks it")
    .addHelpText("after", HELP)
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<RotateOptions>();
      const now = Date.now();
      const activation = activationOf(options, now);
      const settings = administratorSettings(options);
      const nodes = nodesOf(options, settings);
      requireGuardable(options, settings, nodes, activation - now);
      if (options.dryRun !== true) await requireApprovalEarly(settings, options.approval, "rotate");
      const operator = operatorAt(terminal);
      const order = {
        settings,
        nodes,
        now,
        activation,
        dryRun: options.dryRun === true,
        wait: options.wait === true,
        abortUnlessConverged: options.abortUnlessConverged === true,
        approve: approvalCheck(settings, options.approval),
        operator,
      };
      const rotation = await withTokens(settings, operator, (tokens) =>
        untilInterrupted(keyNotices(operator), (signal) => rotateKek({ ...order, tokens, signal })),
      );
      const advice = rotation.made && (await activationAdvice(settings, rotation.made));
      if (advice !== undefined) terminal.err(advice);
      reportRotation(rotation, options.output, terminal);
    });
}

/** @throws KmsError CONFIG_INVALID */
function requireGuardable(
  { abortUnlessConverged }: RotateOptions,
  { tokens }: Settings,
  nodes: readonly URL[],
  delayMs: number,
): void {
  if (abortUnlessConverged !== true) return;
  if (nodes.length === 0 && tokens.length === 1) {
    const text = "--abort-unless-converged: give --nodes, or a configuration with several tokens";
    throw new KmsError("CONFIG_INVALID", text);
  }
  if (delayMs < LEAST_GUARDED_MS) {
    throw new KmsError(
      "CONFIG_INVALID",
      `--abort-unless-converged: requires an activation at least ${LEAST_GUARDED_MS / 1000} s ahead`,
    );
  }
}
