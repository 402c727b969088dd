// `kms-pkcs11 etcd verify`: decrypts every object with the HSM, without an API server. For a snapshot it proves that
// this HSM can decrypt the backup.
import type { Command } from "commander";
import { addEtcdOptions, withEtcd, type EtcdOptions } from "./options.js";
import { EXIT_NO } from "../exit-code.js";
import { formatJson, type Terminal } from "../output.js";
import { formatTable } from "../table.js";
import { addKekOptions, settingsOfKek, type KekOptions } from "./kek-options.js";
import { operatorAt } from "../operator.js";
import { verifyStored, type Verified } from "../../admin/verify-stored.js";
import { oneLine } from "../../untrusted-text.js";
import type { EtcdVerifyOutput } from "../output-schema/etcd.js";

type VerifyOptions = EtcdOptions & KekOptions;

/** Adds `etcd verify`. */
export function addEtcdVerifyCommand(etcd: Command, terminal: Terminal): void {
  addKekOptions(addEtcdOptions(etcd.command("verify")))
    .description(
      "decrypt every object with the HSM, without an API server; exit 0 if every object under KMS v2 can be decrypted, 1 if not",
    )
    .addHelpText(
      "after",
      "\nExample:\n  kms-pkcs11 etcd verify --config /etc/kms-pkcs11/config.yaml --snapshot backup.db",
    )
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<VerifyOptions>();
      const verified = await verify(options, terminal);
      terminal.out(
        options.output === "json" ? formatJson(verified satisfies EtcdVerifyOutput) : describe(verified),
      );
      if (verified.failures.length > 0) process.exitCode = EXIT_NO;
    });
}

async function verify(options: VerifyOptions, terminal: Terminal): Promise<Verified> {
  const settings = settingsOfKek(options);
  const operator = operatorAt(terminal);
  return withEtcd(options, operator, (etcd) => verifyStored(etcd, options.prefix, settings, operator));
}

function describe({ objects, decrypts, seconds, resources, failures }: Verified): string {
  const table = formatTable(
    ["RESOURCE", "OBJECTS", "DECRYPTED", "IN CLEAR", "OTHER PROVIDER", "FAILED"],
    resources.map((one) => [
      one.resource,
      ...[one.objects, one.opened, one.plaintext, one.otherProvider, one.failed].map(String),
    ]),
  );
  const reasons = failures.flatMap(({ reason, objects: failed, keys }) => [
    `${failed} failed: ${reason}`,
    ...keys.map((key) => `  ${oneLine(key)}`),
    ...(failed > keys.length ? [`  and ${failed - keys.length} more`] : []),
  ]);
  const failed = failures.reduce((sum, failure) => sum + failure.objects, 0);
  const others = resources.reduce((sum, { otherProvider }) => sum + otherProvider, 0);
  return [
    table,
    "",
    ...reasons,
    `${objects} objects, ${decrypts} DEK seeds decrypted by the HSM, ${seconds} s`,
    ...(others > 0 ? [`${others} are under other providers and were not checked`] : []),
    failed > 0
      ? `${failed} objects cannot be decrypted`
      : "every object under KMS v2 can be decrypted with this HSM",
  ].join("\n");
}
