// `kms-pkcs11 keys adopt`: gives a key that another tool made, with the plain label, a label with an activation
// instant, so that rotations can follow it. Its value, CKA_ID and key_id stay as they are.
import type { Command } from "commander";
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import type { KekRecord } from "../hsm/wire.js";
import { findByKeyId, readSchedule } from "../provider/generations.js";
import { labelOf } from "../provider/instant.js";
import { schedulePolicy } from "../serve.js";
import { audited } from "./operator-audit.js";
import { formatJson, type Terminal } from "./output.js";
import { addKeyOptions, settingsFrom, type SettingsOptions } from "./settings-options.js";
import { withToken } from "./token.js";

export function addKeysAdoptCommand(keys: Command, terminal: Terminal): void {
  addKeyOptions(keys.command("adopt"))
    .description(
      "give a key made by another tool an activation label, where the token allows it; its key_id stays",
    )
    .argument("<key_id>", "the key_id, as keys list shows it")
    .addHelpText(
      "after",
      "\nExample:\n  kms-pkcs11 keys adopt 0193...c1 --config /etc/kms-pkcs11/config.yaml",
    )
    .action(async (keyId: string, _local, command: Command) => {
      const options = command.optsWithGlobals<SettingsOptions>();
      const settings = settingsFrom(options, false);
      const adopted = await audited(
        settings,
        { operation: "keys adopt", keyId },
        () => adopt(settings, keyId),
        ({ label }) => ({ details: { label } }),
      );
      if (options.output === "json") terminal.out(formatJson({ adopted }));
      else terminal.out(`adopted as "${adopted.label}" (key_id ${adopted.keyId})`);
    });
}

async function adopt(settings: Settings, keyId: string): Promise<KekRecord> {
  return withToken(settings, async (hsm) => {
    const schedule = readSchedule(await hsm.listKeks(), schedulePolicy(settings));
    const generation = findByKeyId(schedule, keyId);
    if (generation === undefined)
      throw new KmsError("KEY_UNKNOWN", `the token holds no usable KEK with key_id ${keyId}`);
    const { record, activation } = generation;
    if (Number.isFinite(activation))
      throw new KmsError("TOKEN_REFUSED", `"${record.label}" has an activation instant already`);
    const later = schedule.generations.find((other) => Number.isFinite(other.activation));
    // Before every generation that has an instant: adopting must not change which one is active.
    const instant =
      later === undefined ? Date.now() : Math.min(...finiteActivations(schedule.generations)) - 1000;
    return hsm.relabel(record.keyId, labelOf(settings.objectName, instant));
  });
}

function finiteActivations(generations: readonly { readonly activation: number }[]): number[] {
  return generations.map(({ activation }) => activation).filter(Number.isFinite);
}
