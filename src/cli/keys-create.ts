// `kms-pkcs11 keys create`: makes the first generation of the KEK inside the HSM.
import type { Command } from "commander";
import { parse as uuidBytes, v7 as uuidV7 } from "uuid";
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import type { KekRecord } from "../hsm/wire.js";
import { labelOf } from "../provider/instant.js";
import { readSchedule } from "../provider/generations.js";
import { schedulePolicy } from "../serve.js";
import { formatJson, formatTable, type Terminal } from "./output.js";
import { addKeyOptions, settingsFrom, type SettingsOptions } from "./settings-options.js";
import { withToken } from "./token.js";

export function addKeysCreateCommand(keys: Command, terminal: Terminal): void {
  addKeyOptions(keys.command("create"))
    .description("make the first KEK inside the HSM, active at once; refuses when one exists")
    .addHelpText(
      "after",
      `
Example:
  kms-pkcs11 keys create --key 'pkcs11:token=kms;object=kms-kek?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/secrets/pin'`,
    )
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<SettingsOptions>();
      const made = await create(settingsFrom(options, false));
      if (options.output === "json") terminal.out(formatJson({ created: made }));
      else terminal.out(describe(made));
    });
}

async function create(settings: Settings): Promise<KekRecord> {
  return withToken(settings, async (hsm) => {
    const present = await hsm.listKeks();
    const [existing] = present;
    if (existing !== undefined) {
      throw new KmsError(
        "TOKEN_REFUSED",
        `the token holds "${existing.label}" (key_id ${existing.keyId}) already; nothing was created`,
      );
    }
    const label = labelOf(settings.objectName, Date.now());
    const ckaId = Buffer.from(uuidBytes(uuidV7())).toString("hex");
    const made = await hsm.generate({ label, ckaId, kind: "auto" });
    await undoIfUnprotected(settings, made, (keyId) => hsm.destroy(keyId));
    return made;
  });
}

/** A token that makes keys which leave it, whatever it is told, must not keep this one. */
async function undoIfUnprotected(
  settings: Settings,
  made: KekRecord,
  destroy: (keyId: string) => Promise<void>,
): Promise<void> {
  const { refused } = readSchedule([made], schedulePolicy(settings));
  const [refusal] = refused;
  if (refusal === undefined) return;
  await destroy(made.keyId);
  throw new KmsError(
    "KEY_UNSUITABLE",
    `the token made a key that is refused, and it was destroyed again: ${refusal.reason}`,
  );
}

function describe(made: KekRecord): string {
  const rows = [
    ["key_id", made.keyId],
    ["label", made.label],
    ["CKA_ID", made.ckaId === "" ? "none" : made.ckaId],
    ["kind", made.kind],
    ...made.remarks.map((remark) => ["remark", remark]),
  ];
  return `KEK created, active now\n${formatTable(["", ""], rows).trimStart()}`;
}
