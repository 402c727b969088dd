// `kms-pkcs11 keys create`: makes the first generation of the KEK inside the HSM.
import type { Command } from "commander";
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import type { KekRecord } from "../hsm/wire.js";
import { labelOf } from "../provider/instant.js";
import { schedulePolicy } from "../serve.js";
import { makeGeneration } from "./new-generation.js";
import { audited } from "./operator-audit.js";
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
      const settings = settingsFrom(options, false);
      const made = await audited(
        settings,
        { operation: "keys create" },
        () => create(settings),
        ({ keyId, label }) => ({ keyId, details: { label } }),
      );
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
    return makeGeneration(hsm, schedulePolicy(settings), labelOf(settings.objectName, Date.now()));
  });
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
