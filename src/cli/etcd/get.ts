// `kms-pkcs11 etcd get`: prints one object in clear, for emergencies in which no API server is left. Requires a reason,
// and prints only after the audit log has recorded it.
import type { Command } from "commander";
import type { Settings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import { openData } from "../../etcd/data-key.js";
import { HsmSeeds } from "../../etcd/hsm-seeds.js";
import type { StoredObject } from "../../etcd/store.js";
import { addKekOptions, settingsOfKek, type KekOptions } from "./kek-options.js";
import { addSourceOptions, withEtcd, type SourceOptions } from "./options.js";
import { approvalCheck, type ApprovalDetails } from "../../admin/approval-check.js";
import { insistOnOperatorEvent, recordOperatorEvent, type Operation } from "../../admin/operator-audit.js";
import { formatJson, printBytes, type Terminal } from "../output.js";
import { addApprovalOption, type ApprovalOption } from "../approval-option.js";
import { operatorAt } from "../operator.js";
import { withProvider } from "../../admin/with-provider.js";
import type { EtcdGetOutput } from "../output-schema/etcd.js";

interface GetOptions extends SourceOptions, KekOptions, ApprovalOption {
  readonly breakGlass?: string;
}

/** Adds `etcd get`. */
export function addEtcdGetCommand(etcd: Command, terminal: Terminal): void {
  addApprovalOption(addKekOptions(addSourceOptions(etcd.command("get"))))
    .description(
      "print one object in clear, with the HSM and without an API server; the audit log records the reason",
    )
    .argument("<key>", "etcd key of the object, such as /registry/secrets/default/db")
    .option("--break-glass <reason>", "the reason, for the audit log, which must be configured")
    .addHelpText(
      "after",
      `
Example:
  kms-pkcs11 etcd get /registry/secrets/default/db --config /etc/kms-pkcs11/config.yaml \\
    --snapshot backup.db --break-glass 'INC-4711: the database password for the rebuild'

The output is what kube-apiserver encoded: protobuf for built-in resources, JSON for custom resources.`,
    )
    .action(async (key: string, _local, command: Command) => {
      const options = command.optsWithGlobals<GetOptions>();
      const reason = (options.breakGlass ?? "").trim();
      if (reason === "") {
        throw new KmsError("CONFIG_INVALID", "--break-glass: give the reason, for the audit log");
      }
      const settings = settingsOfKek(options);
      if (settings.audit === undefined) {
        throw new KmsError(
          "CONFIG_INVALID",
          "audit.file: is missing; set it, since an object is only printed in clear if the audit log records it",
        );
      }
      await get(key, reason, settings, options, terminal);
    });
}

async function get(
  key: string,
  reason: string,
  settings: Settings,
  options: GetOptions,
  terminal: Terminal,
): Promise<void> {
  const operation = { operation: "etcd get", reason, details: { key } };
  let object: StoredObject;
  let plaintext: Buffer;
  let approved: ApprovalDetails;
  try {
    object = await find(key, options, terminal);
    const names = [keyIdOf(object).keyId ?? ""];
    approved = await approvalCheck(settings, options.approval)({ operation: "read", names, object: key });
    plaintext = await open(object, settings, terminal);
  } catch (error) {
    await recordOperatorEvent(settings, operatorAt(terminal), {
      ...operation,
      outcome: KmsError.from(error).code,
    });
    throw error;
  }
  try {
    await insistOnOperatorEvent(settings, operatorAt(terminal), {
      ...operation,
      ...keyIdOf(object),
      details: { key, ...approved },
      outcome: "ok",
    });
    if (options.output === "json") terminal.out(formatJson(outputOf(object, plaintext)));
    else await printBytes(plaintext);
  } finally {
    plaintext.fill(0);
  }
}

function outputOf(object: StoredObject, plaintext: Buffer): EtcdGetOutput {
  const { key, modRevision } = object;
  return { key, modRevision, ...keyIdOf(object), value: plaintext.toString("base64") };
}

/** Returns the stored object. @throws KmsError INPUT_INVALID if there is no such key */
async function find(key: string, options: GetOptions, terminal: Terminal): Promise<StoredObject> {
  const object = await withEtcd(options, operatorAt(terminal), (etcd) => etcd.store("/").object(key));
  if (object !== undefined) return object;
  throw new KmsError(
    "INPUT_INVALID",
    `etcd does not have the key ${key}; give the whole key with its prefix`,
  );
}

async function open({ key, value }: StoredObject, settings: Settings, terminal: Terminal): Promise<Buffer> {
  if (value instanceof KmsError) throw value;
  if (value.kind === "plaintext") return Buffer.from(value.bytes);
  if (value.kind === "other-provider") {
    const under = `${value.provider}:${value.keyName}`;
    throw new KmsError("INPUT_INVALID", `${key} is under ${under}, which does not use this HSM`);
  }
  const { object } = value;
  return withProvider(settings, operatorAt(terminal), async (provider) => {
    const outcome = await new HsmSeeds(provider, 1).load(object);
    if ("refusal" in outcome) throw outcome.refusal;
    return openData(outcome.seed, object.seedUse, object.encryptedData, key);
  });
}

function keyIdOf({ value }: StoredObject): Pick<Operation, "keyId"> {
  return !(value instanceof KmsError) && value.kind === "kms-v2" ? { keyId: value.object.keyId } : {};
}
