// The steps of a drill that need only the snapshot and the token: they count what the snapshot holds, open the token, and
// decrypt every object. The step "keks" is in prove-keks.ts.
import type { Token } from "../admin/command-tokens.js";
import { withCountProgress, type EtcdSource } from "../admin/etcd-source.js";
import type { Operator } from "../admin/operator.js";
import { verifyWith, type Verified } from "../admin/verify-stored.js";
import { withProviderOn } from "../admin/with-provider.js";
import type { Settings } from "../config/settings.js";
import type { Usage } from "../etcd/census-row.js";
import { takeCensus } from "../etcd/count-objects.js";
import type { Found } from "./step-clock.js";

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
