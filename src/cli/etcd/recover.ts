// `kms-pkcs11 etcd recover`: lists the objects that no key can decrypt, one by one and with the cause.
import type { Command } from "commander";
import { withTokens } from "../../admin/command-tokens.js";
import { findUnreadable, type Found } from "../../admin/recover/find-unreadable.js";
import type { EtcdSource } from "../../admin/etcd-source.js";
import { normalPrefix } from "../../etcd/storage-key.js";
import { EXIT_NO } from "../exit-code.js";
import { NODES_FLAGS, nodesOf, type NodesOptions } from "../nodes-option.js";
import { operatorAt } from "../operator.js";
import { formatJson, type Terminal } from "../output.js";
import type { EtcdRecoverOutput } from "../output-schema/etcd-recover.js";
import { addKekOptions, settingsOfKek, type KekOptions } from "./kek-options.js";
import { addEtcdOptions, withEtcd, type EtcdOptions } from "./options.js";
import { describeFound } from "./recover-report.js";

type RecoverOptions = EtcdOptions & KekOptions & NodesOptions;

const HELP = `
Causes: unknown-key-id (no token has the KEK), kek-missing (a node has used the KEK, and no token has it any more),
known-elsewhere (a node has the KEK, these tokens do not), damaged (the DEK seed or the data does not authenticate), envelope
(the stored value is neither an encrypted object nor a Kubernetes object), unproven (the KEK could not answer, or its token
could not be read: this says nothing about the object). Objects of other providers are counted, not checked.

Example:
  kms-pkcs11 etcd recover --config /etc/kms-pkcs11/config.yaml --nodes http://127.0.0.1:8090,ssh://root@cp-2`;

/** Adds `etcd recover`. */
export function addEtcdRecoverCommand(etcd: Command, terminal: Terminal): void {
  addKekOptions(addEtcdOptions(etcd.command("recover")))
    .description(
      "list every object that no key can decrypt, and why; exit 0 if there is none, 1 if there are some",
    )
    .option(
      NODES_FLAGS,
      "every node's plugin, such as http://127.0.0.1:8090 (default: the setting nodes); asked whether it knows a key_id that is unknown here",
    )
    .addHelpText("after", HELP)
    .action(async (_local, command: Command) => {
      await recover(command.optsWithGlobals<RecoverOptions>(), terminal);
    });
}

async function recover(options: RecoverOptions, terminal: Terminal): Promise<void> {
  const settings = settingsOfKek(options);
  const operator = operatorAt(terminal);
  const nodes = nodesOf(options, settings);
  const { prefix } = options;
  await withEtcd(options, operator, async (etcd) => {
    const found = await withTokens(settings, operator, (tokens) =>
      findUnreadable(etcd.store(prefix), prefix, tokens, nodes, settings, operator),
    );
    terminal.out(options.output === "json" ? formatJson(jsonOf(found, etcd, prefix)) : describeFound(found));
    if (found.unreadable > 0) process.exitCode = EXIT_NO;
  });
}

function jsonOf(found: Found, { source }: EtcdSource, prefix: string): EtcdRecoverOutput {
  return { listedAt: new Date().toISOString(), source, prefix: normalPrefix(prefix), ...found };
}
