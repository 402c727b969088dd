// Deletes unreadable objects through kube-apiserver, one by one. Every check made before the operator confirms is repeated
// afterwards, and each object is checked once more immediately before its deletion (deletion-work.ts). An interrupted run can
// be repeated: it skips the objects that are gone.
import { KmsError } from "../../errors.js";
import { ApiResources } from "../../etcd/api-resources.js";
import { repeatableNotices, untilInterrupted } from "../interrupts.js";
import type { Operator } from "../operator.js";
import { addressAll, type Addressed } from "./api-paths.js";
import { requireAge, requireBackup } from "./backup.js";
import { deletableOf, type Kept } from "./deletable.js";
import { Work } from "./deletion-work.js";
import type { Deletion, DeletionOrder, DeletionPorts, DeletionResult } from "./deletion.js";
import { settledEarlier, type Earlier } from "./earlier-deletions.js";
import type { Found } from "./find-unreadable.js";
import { collectionsOfGone, listAgain, type ListResult } from "./list-again.js";
import { requireProven } from "./recheck.js";
import { newRunId } from "./run-record.js";

/**
 * Deletes those of the unreadable objects that may be deleted.
 * @throws KmsError before anything is deleted; later failures are in the result
 */
export async function deleteFound(
  found: Found,
  ports: DeletionPorts,
  order: DeletionOrder,
): Promise<Deletion> {
  const { api, only, backup: demand } = order;
  const earlier = await settledEarlier(only, found.findings, ports, demand.maxAgeMs);
  const { chosen, kept } = deletableOf(found, order);
  if (chosen.length > 0) {
    requireFew(found, chosen.length, order.limit);
    const { unproven } = await requireProven(ports, false);
    for (const { reason } of unproven) ports.operator.notify(`${reason}; no stored object names it`);
  }
  const isApiNeeded = chosen.length > 0 || earlier.some(({ outcome }) => outcome === "gone");
  if (!isApiNeeded) return nothingDeleted(kept, earlier, []);
  const resources = await ApiResources.discover(api);
  const before = collectionsOfGone(earlier, ports.prefix, resources);
  const { addressed, kept: unserved } = await addressAll(chosen, { ...ports, api, resources }, order);
  const left = [...kept, ...unserved];
  if (addressed.length === 0) {
    const { lists, failure } = await toItsEnd(ports.operator, order, undefined, () =>
      Promise.resolve(before),
    );
    return { ...nothingDeleted(left, earlier, lists), failure };
  }
  const run = newRunId();
  const work = await confirmed(addressed, ports, order, run);
  const unfinished = (): string => work.unfinished(addressed.length);
  const { lists, failure } = await toItsEnd(ports.operator, order, unfinished, async (signal) => {
    await work.run(addressed, signal);
    return new Map([...before, ...work.touched]);
  });
  const results = [...work.results, ...earlier, ...left.map(keptResult)];
  return { run, earlier, backup: work.backup, results, lists, failure: work.failure ?? failure };
}

/**
 * Deletes the objects, then waits until kube-apiserver can list their resources. An interrupt ends both; it counts as a
 * failure if a resource cannot be listed by then.
 */
async function toItsEnd(
  operator: Operator,
  { api, begin }: DeletionOrder,
  unfinished: (() => string) | undefined,
  work: (signal: AbortSignal) => Promise<ReadonlyMap<string, string>>,
): Promise<Pick<Deletion, "lists" | "failure">> {
  const notices = repeatableNotices(operator);
  return untilInterrupted({ ...notices, ...(unfinished && { unfinished }) }, async (signal) => {
    begin();
    const lists = await listAgain(await work(signal), api, signal, operator);
    const isCut = signal.aborted && lists.some(({ error }) => error !== null);
    const message = "interrupted while a resource could not be listed; repeat the command to wait for it";
    return { lists, failure: isCut ? new KmsError("CANCELLED", message) : undefined };
  });
}

/** Makes the checks that do not concern single objects, asks the operator, and repeats the checks after the answer. */
async function confirmed(
  addressed: readonly Addressed[],
  ports: DeletionPorts,
  order: DeletionOrder,
  run: string,
): Promise<Work> {
  const objects = addressed.map(({ finding }) => finding);
  const backup = await requireBackup(order.backup, objects, ports.operator);
  await order.confirm(objects, backup);
  await requireProven(ports, true);
  requireAge(order.backup, Date.parse(backup.writtenAt));
  return new Work(ports, order, backup, { run, ...(await order.approve()) });
}

function nothingDeleted(
  kept: readonly Kept[],
  earlier: readonly Earlier[],
  lists: readonly ListResult[],
): Deletion {
  const run = earlier.some(({ outcome }) => outcome === "gone") ? newRunId() : null;
  const results = [...earlier, ...kept.map(keptResult)];
  return { run, earlier, backup: null, results, lists, failure: undefined };
}

function keptResult({ finding: { key, modRevision }, why }: Kept): DeletionResult {
  return { key, modRevision, outcome: "kept", reason: why };
}

/** Many unreadable objects are rarely all damaged; more often a KEK is missing. */
function requireFew({ unreadable, findings }: Found, chosen: number, limit: number): void {
  if (unreadable > findings.length) {
    throw new KmsError(
      "CONFIG_INVALID",
      `${unreadable} objects cannot be decrypted, more than are listed; restore the KEK or the backup instead`,
    );
  }
  if (chosen <= limit) return;
  throw new KmsError(
    "CONFIG_INVALID",
    `${chosen} objects would be deleted, more than --limit ${limit}; that many usually mean that a KEK is missing; if they are lost, give --limit ${chosen}`,
  );
}
