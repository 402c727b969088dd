// Finds out what became of the objects that an earlier run set out to delete and that are no longer unreadable: those that
// --only lists or, without it, those that the audit log names. A repeated run reports them, and checks that their resources
// can be listed.
import type { Settings } from "../../config/settings.js";
import type { ObjectStore } from "../../etcd/store.js";
import type { Operator } from "../operator.js";
import type { Selection } from "./deletable.js";
import type { Finding } from "./find-unreadable.js";
import { recordedDeletions, type RecordedDeletion } from "./recorded-deletions.js";

export interface Earlier {
  readonly key: string;
  readonly modRevision: number;
  readonly outcome: "gone" | "changed";
  /** Null if the object is gone and nothing says how. */
  readonly reason: string | null;
}

interface EarlierPorts {
  readonly store: Pick<ObjectStore, "object">;
  readonly prefix: string;
  readonly settings: Settings;
  readonly operator: Operator;
}

/**
 * Returns what became of the objects that are not among the findings.
 * @param maxAgeMs how old a record in the audit log may be
 * @throws KmsError if etcd is away
 */
export async function settledEarlier(
  only: Selection["only"],
  findings: readonly Finding[],
  { store, prefix, settings, operator }: EarlierPorts,
  maxAgeMs: number,
): Promise<Earlier[]> {
  const found = new Set(findings.map(({ key }) => key));
  if (only !== undefined) {
    return settledListed(
      only.filter(({ key }) => !found.has(key)),
      store,
    );
  }
  const recorded = await recordedDeletions(settings, prefix, Date.now() - maxAgeMs, operator);
  return goneRecorded(
    recorded.filter(({ key }) => !found.has(key)),
    store,
  );
}

async function settledListed(
  listed: NonNullable<Selection["only"]>,
  store: EarlierPorts["store"],
): Promise<Earlier[]> {
  const settled: Earlier[] = [];
  for (const { key, modRevision } of listed) {
    const now = await store.object(key);
    if (now === undefined) {
      settled.push({ key, modRevision, outcome: "gone", reason: null });
      continue;
    }
    const reason =
      now.modRevision === modRevision
        ? "it can be decrypted now"
        : `it was written again, at revision ${now.modRevision}`;
    settled.push({ key, modRevision, outcome: "changed", reason });
  }
  return settled;
}

/** An object that has been created again since then is not reported. */
async function goneRecorded(
  recorded: readonly RecordedDeletion[],
  store: EarlierPorts["store"],
): Promise<Earlier[]> {
  const gone: Earlier[] = [];
  for (const { key, modRevision, begunAt } of recorded) {
    if ((await store.object(key)) !== undefined) continue;
    const reason = `a run that was interrupted began to delete it at ${begunAt}, as the audit log shows`;
    gone.push({ key, modRevision, outcome: "gone", reason });
  }
  return gone;
}
