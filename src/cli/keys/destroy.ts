// `kms-pkcs11 keys destroy`: permanently removes a generation of the KEK from every token that holds it, and reports
// what the tokens and nodes show afterwards.
import type { Command } from "commander";
import { approvalCheck, requireApprovalEarly } from "../../admin/approval-check.js";
import { confirmation } from "./confirm-key-id.js";
import { destroyKek, recordDestruction, type Destroyed } from "../../admin/destroy-kek.js";
import { addDisuseOptions, digestsOf, disuseProofOf, type DisuseOptions } from "./disuse-options.js";
import { parseKeyReference } from "../../admin/key-reference.js";
import {
  nodesAfterDestroy,
  warningsAfterDestroy,
  type NodeAfterDestroy,
} from "../../admin/nodes-after-destroy.js";
import { printResult } from "../next-step.js";
import type { Terminal } from "../output.js";
import { formatTable } from "../table.js";
import { addApprovalOption, type ApprovalOption } from "../approval-option.js";
import { NODES_FLAGS, nodesOf, type NodesOptions } from "../nodes-option.js";
import { operatorAt } from "../operator.js";
import { addKeyOptions, administratorSettings, type SettingsOptions } from "../settings-options.js";
import { withTokens } from "../../admin/command-tokens.js";
import { changeRows, requireChanged } from "../../admin/token-changes.js";
import type { KeysDestroyOutput } from "../output-schema/keys.js";

type DestroyOptions = SettingsOptions & DisuseOptions & ApprovalOption & NodesOptions;

const HELP = `
The active KEK is refused. Any other KEK requires a proof that no object is under it, or --i-understand-data-is-lost. On a
terminal you have to type the whole key_id as well; the command then checks the KEK, the nodes and the proof again. If one of
several tokens failed, repeat the command to finish.

A standby KEK has protected nothing if no node has activated it. This machine's clock cannot show that, since a node's clock may
be ahead. If you name every node with --nodes, no proof is needed until 10 s before the activation. After that, the command
destroys no standby KEK, and makes no call that a slow token would begin too late.

A node shows that it never used a standby KEK if its memory, in its stateDir, is older than the key. If it is not, or if a
node has used the KEK, the command requires the same proof as for a retired KEK. Whenever an etcd is named (--endpoints or
ETCDCTL_ENDPOINTS), the command searches it too.

With --nodes, the command refuses if the clocks of the nodes and of this machine differ by more than 3 s. It also refuses if a
node answered under the KEK within the last 5 minutes plus health.outageGracePeriod, unless you give up the data under it with
--i-understand-data-is-lost.

A search of etcd shows which objects are under a retired KEK, not which may still be written under it: a node whose token
lacks the successor, or whose plugin hangs, continues to encrypt under it. A proof from etcd therefore also requires --nodes
with every node, each with another active KEK; or, if you have verified that in another way, --every-node-has-left KEY_ID.

Clusters that share a token may all have objects under the KEK. Give a --usage-report of each, name each one with
--cluster-id, and all their nodes with --nodes. The command refuses if a named cluster has no report. If another
configuration selects the same KEK for a cluster with another name, give its nodes as http://10.0.0.7:8090/?cluster=NAME.

Another key on a token may hold a copy of a retired KEK, under any label and CKA_ID. Before it asks, the command warns of each
key with the same fingerprint, CKA_CHECK_VALUE or modulus. It does not destroy them: use the vendor's tool.

A reloaded library confirms that the KEK is gone. Exit code 1 or 3 with "is not known" means that you have to check a token
again with 'keys list'. Afterwards the nodes are asked again for up to 10 s; a node that still lists the KEK is a warning.
With audit.required, the command changes nothing that it cannot record first.

Example:
  kms-pkcs11 etcd usage --report usage.json
  kms-pkcs11 keys destroy 0193...c1 --usage-report usage.json --config /etc/kms-pkcs11/config.yaml \\
    --nodes http://127.0.0.1:18090,http://127.0.0.1:28090,http://127.0.0.1:38090`;

/** Adds `keys destroy`. */
export function addKeysDestroyCommand(keys: Command, terminal: Terminal): void {
  addApprovalOption(addDisuseOptions(addKeyOptions(keys.command("destroy"))))
    .description(
      "destroy a standby or retired KEK on every token; what is encrypted under it can then never be read again",
    )
    .argument("<key_id>", "the key_id, its beginning, a CKA_ID, @standby or @retired")
    .option(
      NODES_FLAGS,
      "every node's plugin, such as http://127.0.0.1:8090 (default: the setting nodes); refuses if one still uses the KEK; proves that a standby KEK was never used",
    )
    .addHelpText("after", HELP)
    .action(async (keyId: string, _local, command: Command) => {
      await destroy(keyId, command.optsWithGlobals<DestroyOptions>(), terminal);
    });
}

async function destroy(keyId: string, options: DestroyOptions, terminal: Terminal): Promise<void> {
  const reference = parseKeyReference("<key_id>", keyId);
  const operator = operatorAt(terminal);
  const proof = disuseProofOf(options, operator);
  const settings = administratorSettings(options);
  await requireApprovalEarly(settings, options.approval, "destroy");
  const approve = approvalCheck(settings, options.approval);
  const reports = options.approval === undefined ? [] : await digestsOf(options.usageReport);
  const nodes = nodesOf(options, settings);
  const confirm = confirmation();
  const destroyed = await recordDestruction(settings, operator, keyId, (begin) =>
    withTokens(settings, operator, (tokens) =>
      destroyKek({ settings, tokens, reference, nodes, proof, confirm, approve, reports, begin, operator }),
    ),
  );
  const { record } = destroyed.key;
  const after =
    destroyed.changes.failure === undefined
      ? await nodesAfterDestroy(nodes, [record.keyId, ...record.aliases])
      : [];
  report(destroyed, after, options, terminal);
  for (const warning of warningsAfterDestroy(after, record.keyId)) {
    operator.notify(`warning: ${warning}`);
  }
  requireChanged(destroyed.changes, "destroyed");
}

function report(
  { key, proof, copies, changes }: Destroyed,
  nodes: readonly NodeAfterDestroy[],
  { output }: DestroyOptions,
  terminal: Terminal,
): void {
  const { keyId, label } = key.record;
  const { tokens, failure } = changes;
  const did = failure === undefined ? "destroyed" : "not destroyed everywhere:";
  const rows = tokens.length > 1 ? `\n${formatTable(["", "", ""], changeRows(changes)).trimStart()}` : "";
  const isShown = tokens.length > 1 || failure === undefined;
  const result = {
    json: {
      destroyed: { keyId, label, state: key.state, proof, copies: [...copies] },
      tokens,
      nodes,
    } satisfies Omit<KeysDestroyOutput, "next">,
    text: isShown ? `${did} "${label}" (key_id ${keyId})${rows}` : "",
    change: failure === undefined ? ({ did: "destroy", state: key.state } as const) : undefined,
  };
  printResult(result, output, terminal);
}
