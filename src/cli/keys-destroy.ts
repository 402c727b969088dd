// `kms-pkcs11 keys destroy`: removes a generation of the KEK from the token, for good. Never the active one;
// and only when the caller has written out that what it protects is lost.
import { createInterface } from "node:readline/promises";
import type { Command } from "commander";
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import type { KekRecord } from "../hsm/wire.js";
import { activeAt, findByKeyId, readSchedule, stateOf, type Generation } from "../provider/generations.js";
import { schedulePolicy } from "../serve.js";
import { audited } from "./operator-audit.js";
import { formatJson, type Terminal } from "./output.js";
import { addDisuseOptions, requireDisuse, type DisuseOptions } from "./proof-of-disuse.js";
import { addKeyOptions, settingsFrom, type SettingsOptions } from "./settings-options.js";
import { withToken } from "./token.js";

type DestroyOptions = SettingsOptions & DisuseOptions;

export function addKeysDestroyCommand(keys: Command, terminal: Terminal): void {
  addDisuseOptions(addKeyOptions(keys.command("destroy")))
    .description(
      "destroy a standby or retired KEK on the token; what is encrypted under it can then never be read again",
    )
    .argument("<key_id>", "the key_id, as keys list shows it")
    .addHelpText(
      "after",
      `
Example:
  kms-pkcs11 keys destroy 0193...c1 --i-understand-data-is-lost 0193...c1 --config /etc/kms-pkcs11/config.yaml`,
    )
    .action(async (keyId: string, _local, command: Command) => {
      const options = command.optsWithGlobals<DestroyOptions>();
      const settings = settingsFrom(options, false);
      const { record } = await audited(
        settings,
        { operation: "keys destroy", keyId },
        () => destroy(settings, keyId, options),
        ({ record: { label }, proof }) => ({ details: { label, proof } }),
      );
      if (options.output === "json")
        terminal.out(formatJson({ destroyed: { keyId: record.keyId, label: record.label } }));
      else terminal.out(`destroyed "${record.label}" (key_id ${record.keyId})`);
    });
}

interface Destroyed {
  readonly record: KekRecord;
  readonly proof: string;
}

async function destroy(settings: Settings, keyId: string, options: DestroyOptions): Promise<Destroyed> {
  return withToken(settings, async (hsm) => {
    const { record } = destroyable(await hsm.listKeks(), settings, keyId);
    const proof = await requireDisuse(record, options);
    await confirm(record.keyId);
    await hsm.destroy(record.keyId);
    return { record, proof };
  });
}

/** @throws KmsError KEY_UNKNOWN; TOKEN_REFUSED for the active KEK */
function destroyable(
  records: Parameters<typeof readSchedule>[0],
  settings: Settings,
  keyId: string,
): Generation {
  const policy = schedulePolicy(settings);
  const schedule = readSchedule(records, policy);
  const generation = findByKeyId(schedule, keyId);
  if (generation === undefined)
    throw new KmsError("KEY_UNKNOWN", `the token holds no KEK with key_id ${keyId}; nothing was destroyed`);
  const now = Date.now();
  if (stateOf(generation, activeAt(schedule, policy, now), now) !== "active") return generation;
  throw new KmsError("TOKEN_REFUSED", `${keyId} is the active KEK and is not destroyed; rotate first`);
}

/** Asks on a terminal for the key_id to be typed. @throws KmsError TOKEN_REFUSED */
async function confirm(keyId: string): Promise<void> {
  if (!process.stdin.isTTY) return;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const typed = await terminal.question(`Type the key_id to destroy it:\n`);
  terminal.close();
  if (typed.trim() !== keyId)
    throw new KmsError("TOKEN_REFUSED", "another key_id was typed; nothing was destroyed");
}
