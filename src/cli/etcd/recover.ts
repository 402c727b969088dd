// `kms-pkcs11 etcd recover`: lists the objects that no key can decrypt, one by one and with the cause; with --delete, has
// kube-apiserver delete them.
import { hostname } from "node:os";
import type { Command } from "commander";
import { approvalCheck, requireApprovalEarly } from "../../admin/approval-check.js";
import { withTokens } from "../../admin/command-tokens.js";
import { withLiveEtcd, type LiveEtcd } from "../../admin/etcd-source.js";
import { deleteFound } from "../../admin/recover/delete-unreadable.js";
import type { Deletion } from "../../admin/recover/deletion.js";
import { findUnreadable, type Found } from "../../admin/recover/find-unreadable.js";
import { readObjectList } from "../../admin/recover/list-file.js";
import { recordRunEnd } from "../../admin/recover/run-record.js";
import type { Settings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import { KubeApi } from "../../etcd/kube-api.js";
import { normalPrefix } from "../../etcd/storage-key.js";
import type { UsageSource } from "../../etcd/usage-report.js";
import { EXIT_NO } from "../exit-code.js";
import { printResult } from "../next-step.js";
import { nodesOf } from "../nodes-option.js";
import { operatorAt } from "../operator.js";
import type { Terminal } from "../output.js";
import type { EtcdRecoverOutput } from "../output-schema/etcd-recover.js";
import { confirmDeletion } from "./confirm-deletion.js";
import { addKekOptions, settingsOfKek } from "./kek-options.js";
import { exitOnInterrupt } from "../exit-on-interrupt.js";
import { addEtcdOptions, etcdAccess, withEtcd } from "./options.js";
import { addRecoverOptions, deletionLimits, requireListing, type RecoverOptions } from "./recover-options.js";
import { describeDeletion, describeFound, leftAfter } from "./recover-report.js";

const HELP = `
Causes: unknown-key-id (no token has the KEK), kek-missing (a node has used the KEK, and no token has it any more),
known-elsewhere (a node has the KEK, these tokens do not), damaged (the DEK seed or the data does not authenticate), envelope
(the stored value is neither an encrypted object nor a Kubernetes object), unproven (the KEK could not answer, or its token
could not be read: this says nothing about the object). Objects of other providers are counted, not checked.

Restore an object from a backup if you can: what is deleted is gone, its finalizers do not run, and what depends on it stays
behind. --delete concerns objects with the causes damaged and envelope, and with --lost-kek KEY_ID those with the causes
unknown-key-id and kek-missing under that key_id. It needs every token, a proof of every KEK on them that an object may be
under, a backup that contains the objects, an audit log, and kube-apiserver 1.37 (1.32 to 1.36 with the feature gate
AllowUnsafeMalformedObjectDeletion). A KEK is proven by a round trip or, if it may only decrypt, by a stored DEK seed.
The kubeconfig's user needs the verbs get, list, delete and unsafe-delete-ignore-read-errors. Immediately before each
deletion, the object is read and decrypted again, and kube-apiserver has to say that it cannot read it either. Afterwards
every resource must be listed within 60 s.

After an interruption, run the command again on the same machine. It reports as "gone" what the earlier run deleted: objects in the
list of --only or, without it, objects that the audit log names in lines not older than --max-backup-age. Each machine has an
audit log of its own: without --only, a run on another machine deletes the rest, but cannot name what the interrupted run
deleted. The output names the file and the machine that record a run. A run is interrupted if it was killed, ended with an error,
or left a resource that cannot be listed.

If the approval policy has a threshold for recover, --only names the list that was approved.

Examples:
  kms-pkcs11 etcd recover --config /etc/kms-pkcs11/config.yaml --nodes http://127.0.0.1:8090,ssh://root@cp-2
  kms-pkcs11 etcd recover --config /etc/kms-pkcs11/config.yaml -o json >unreadable.json
  kms-pkcs11 etcd recover --config /etc/kms-pkcs11/config.yaml --delete --only unreadable.json --backup backup.db`;

/** Adds `etcd recover`. */
export function addEtcdRecoverCommand(etcd: Command, terminal: Terminal): void {
  addRecoverOptions(addKekOptions(addEtcdOptions(etcd.command("recover"))))
    .description(
      "list every object that no key can decrypt, and why; exit 0 if there is none, 1 if there are some; --delete deletes them",
    )
    .addHelpText("after", HELP)
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<RecoverOptions>();
      const settings = settingsOfKek(options);
      await (options.delete === true ? remove : list)(options, settings, terminal);
    });
}

async function list(options: RecoverOptions, settings: Settings, terminal: Terminal): Promise<void> {
  requireListing(options);
  const operator = operatorAt(terminal);
  const nodes = nodesOf(options, settings);
  const { prefix, output } = options;
  await withEtcd(options, operator, async (etcd) => {
    const { found } = await withTokens(settings, operator, (tokens) =>
      findUnreadable(etcd.store(prefix), prefix, tokens, nodes, settings, operator),
    );
    const json = { ...jsonOf(found, etcd.source, prefix), deletion: null };
    printResult({ json, text: describeFound(found), change: undefined }, output, terminal);
    if (found.unreadable > 0) process.exitCode = EXIT_NO;
  });
}

async function remove(options: RecoverOptions, settings: Settings, terminal: Terminal): Promise<void> {
  deletionLimits(options, settings);
  const begin = exitOnInterrupt("interrupted; nothing was deleted", options.output, terminal);
  try {
    await requireApprovalEarly(settings, options.approval, "recover");
    const api = KubeApi.connect(options);
    const place = { api, begin, settings };
    await withLiveEtcd(etcdAccess(options), (etcd) => removeFrom(etcd, place, options, terminal)).finally(
      () => {
        api.close();
      },
    );
  } finally {
    begin();
  }
}

interface RemovalPlace {
  readonly api: KubeApi;
  /** Called before the first deletion: from then on, an interruption no longer means that nothing was deleted. */
  readonly begin: () => void;
  readonly settings: Settings;
}

async function removeFrom(
  etcd: LiveEtcd,
  { api, begin, settings }: RemovalPlace,
  options: RecoverOptions,
  terminal: Terminal,
): Promise<void> {
  const operator = operatorAt(terminal);
  const { backupFile, maxAgeMs, limit } = deletionLimits(options, settings);
  const { prefix, output, lostKek = [], skipClusterCheck = false, yes } = options;
  const nodes = nodesOf(options, settings);
  const store = etcd.store(prefix);
  const only = options.only === undefined ? undefined : readObjectList(options.only);
  const check = approvalCheck(settings, options.approval);
  const order = {
    ...{ api, begin },
    backup: { file: backupFile, maxAgeMs, prefix },
    limit,
    nodes,
    skipClusterCheck,
    lostKeks: lostKek,
    only: only?.objects,
    confirm: yes === true ? () => Promise.resolve() : confirmDeletion(terminal),
    approve: () => check({ operation: "recover", names: [], ...(only !== undefined && only.approved) }),
  };
  const { found, deletion } = await withTokens(settings, operator, async (tokens) => {
    const { found, seeds } = await findUnreadable(store, prefix, tokens, nodes, settings, operator);
    const deletion = await deleteFound(found, { store, prefix, tokens, seeds, settings, operator }, order);
    return { found, deletion };
  }).catch(nothingDeleted);
  const recovered = deletionJson(deletion, settings);
  const json = { ...jsonOf(found, etcd.source, prefix), deletion: recovered };
  const left = leftAfter(found, deletion);
  const change = { did: left === 0 ? "recover" : "recover a part" } as const;
  const shown = { json, text: describeDeletion(found, deletion, recovered.audit), change };
  printResult(deletion.failure === undefined ? shown : { ...shown, change: undefined }, output, terminal);
  await recordRunEnd(deletion, left, { settings, operator });
  if (deletion.failure !== undefined) throw deletion.failure;
  if (left > 0 || deletion.lists.some(({ error }) => error !== null)) process.exitCode = EXIT_NO;
}

/** An error before the results means that nothing was deleted. The error of a cancelled question does not say so. */
function nothingDeleted(error: unknown): never {
  const { code, message } = KmsError.from(error);
  if (code !== "CANCELLED" || message.includes("nothing was deleted")) throw error;
  throw new KmsError(code, `${message}; nothing was deleted`, error);
}

function jsonOf(
  found: Found,
  source: UsageSource,
  prefix: string,
): Omit<EtcdRecoverOutput, "deletion" | "next"> {
  return { listedAt: new Date().toISOString(), source, prefix: normalPrefix(prefix), ...found };
}

function deletionJson(
  { run, backup, results, lists }: Deletion,
  { audit }: Settings,
): NonNullable<EtcdRecoverOutput["deletion"]> {
  const recorded = run === null || audit === undefined ? null : { host: hostname(), file: audit.file };
  return { run, audit: recorded, backup, results, lists };
}
