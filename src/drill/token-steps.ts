// The steps of a drill with snapshot and token alone: which KEKs the snapshot needs, whether the token holds and performs
// them, and whether every object can be decrypted.
import type { Token } from "../admin/command-tokens.js";
import { withCountProgress, type EtcdSource } from "../admin/etcd-source.js";
import type { Operator } from "../admin/operator.js";
import { verifyWith, type Verified } from "../admin/verify-stored.js";
import { withProviderOn } from "../admin/with-provider.js";
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import type { Usage } from "../etcd/census-row.js";
import { takeCensus } from "../etcd/count-objects.js";
import type { DrillReport } from "../evidence/drill-report.js";
import { hasKeyId } from "../hsm/key-id.js";
import type { Found } from "./step-clock.js";

type Kek = DrillReport["keks"][number];

/** What the snapshot holds. */
export interface SnapshotContent {
  readonly objects: number;
  readonly revision: number;
  readonly usages: readonly Usage[];
}

/** Counts the objects of a snapshot by key. @throws KmsError */
export async function countSnapshot(
  source: EtcdSource,
  prefix: string,
  operator: Operator,
): Promise<SnapshotContent> {
  const store = source.store(prefix);
  const census = await withCountProgress(prefix, operator, (observer) =>
    takeCensus(store, { prefix, observer }),
  );
  const { objects, usages } = census.result();
  return { objects, usages, revision: store.revisions?.last ?? 0 };
}

/** Returns the result of opening the tokens. @throws KmsError if none can be read */
export function openedTokens(tokens: readonly Token[]): Found {
  const away = tokens.filter(({ failure }) => failure !== undefined);
  const [first] = away;
  if (first?.failure !== undefined && away.length === tokens.length) throw first.failure;
  const names = tokens.map(({ name, records, failure }) =>
    failure === undefined ? `${name} holds ${records?.length ?? 0} KEKs` : `${name}: ${failure.message}`,
  );
  return { detail: names.join("; "), failed: away.length > 0 };
}

/** Looks for every KEK that the snapshot needs, and proves it by a round trip on the token. @throws KmsError */
export async function proveKeks(
  usages: readonly Usage[],
  tokens: readonly Token[],
  settings: Settings,
): Promise<Found & { readonly keks: readonly Kek[] }> {
  const keks: Kek[] = [];
  for (const [keyId, objects] of objectsByKeyId(usages)) {
    keks.push({ keyId, objects, ...(await proveKek(keyId, tokens, settings)) });
  }
  const missing = keks.filter(({ found }) => !found).length;
  const unproven = keks.filter(({ found, proven }) => found && !proven).length;
  const detail = [
    `${keks.length} needed by the snapshot`,
    `${keks.length - missing - unproven} proven`,
    ...(missing > 0 ? [`${missing} missing`] : []),
    ...(unproven > 0 ? [`${unproven} do not work`] : []),
  ].join(", ");
  return { detail, failed: missing + unproven > 0, keks };
}

function objectsByKeyId(usages: readonly Usage[]): Map<string, number> {
  const byKeyId = new Map<string, number>();
  for (const { keyId, objects } of usages) {
    if (keyId !== null) byKeyId.set(keyId, (byKeyId.get(keyId) ?? 0) + objects);
  }
  return byKeyId;
}

async function proveKek(
  keyId: string,
  tokens: readonly Token[],
  settings: Settings,
): Promise<Pick<Kek, "found" | "proven" | "detail">> {
  const holders = tokens.flatMap(({ hsm, name, records = [] }) => {
    const record = records.find((one) => hasKeyId(one, keyId));
    return record === undefined ? [] : [{ hsm, name, record }];
  });
  const problems: string[] = [];
  for (const { hsm, name, record } of holders) {
    try {
      const tried = await hsm.probe(record.keyId, settings.mechanism);
      const works = tried.find((one) => one.works);
      if (works !== undefined) {
        return { found: true, proven: true, detail: `"${record.label}" on ${name}, ${works.mechanism}` };
      }
      problems.push(`${name}: ${tried.map(({ mechanism, detail }) => `${mechanism}: ${detail}`).join(", ")}`);
    } catch (error) {
      problems.push(`${name}: ${KmsError.from(error).message}`);
    }
  }
  if (holders.length > 0) return { found: true, proven: false, detail: problems.join("; ") };
  return { found: false, proven: false, detail: "no token holds it" };
}

/** Decrypts every object of the snapshot. @throws KmsError */
export async function verifyAll(
  source: EtcdSource,
  prefix: string,
  tokens: readonly Token[],
  settings: Settings,
  operator: Operator,
): Promise<Found & { readonly verified: Verified }> {
  const options = { prefix, sessions: settings.hsm.sessions };
  const verified = await withProviderOn(tokens, settings, operator, (provider) =>
    verifyWith(provider, source.store(prefix), options, operator),
  );
  const { objects, decrypts, resources, failures } = verified;
  const failed = failures.reduce((sum, one) => sum + one.objects, 0);
  const others = resources.reduce((sum, { otherProvider }) => sum + otherProvider, 0);
  const detail = [
    `${objects} objects, ${decrypts} DEK seeds`,
    failed > 0 ? `${failed} cannot be read` : "all under KMS v2 can be read",
    ...(others > 0 ? [`${others} under other providers were not checked`] : []),
  ].join(", ");
  return { detail, failed: failed > 0, verified };
}
