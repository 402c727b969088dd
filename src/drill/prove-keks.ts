// The step "keks" of a drill: whether the tokens hold every KEK that the snapshot needs, and whether it works. A KEK is proven by a
// round trip or, if it may only decrypt, by a DEK seed that the snapshot holds under it.
import type { Token } from "../admin/command-tokens.js";
import type { Operator } from "../admin/operator.js";
import { proveByStoredSeed } from "../admin/stored-proof.js";
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import type { Usage } from "../etcd/census-row.js";
import { repeatedIfLate } from "../etcd/late-hsm.js";
import { copyOf, type SeedQuestion } from "../etcd/seeds.js";
import type { ObjectStore } from "../etcd/store.js";
import type { DrillReport } from "../evidence/drill-report.js";
import { hasKeyId, mayBeNamed } from "../hsm/key-id.js";
import type { KekRecord } from "../hsm/port.js";
import type { Found } from "./step-clock.js";

type Kek = DrillReport["keks"][number];
type Proof = Pick<Kek, "found" | "proven" | "detail">;

interface ProofPorts {
  readonly tokens: readonly Token[];
  readonly store: ObjectStore;
  readonly settings: Settings;
  readonly operator: Operator;
}

/** A token that holds a KEK, or one that may be it. */
interface Holder {
  readonly token: Token;
  readonly record: KekRecord;
}

/** One stored seed may be damaged. */
const MAX_SEEDS = 4;

/** Looks for every KEK that the snapshot needs, and proves it. @throws KmsError */
export async function proveKeks(
  usages: readonly Usage[],
  ports: ProofPorts,
): Promise<Found & { readonly keks: readonly Kek[] }> {
  const keks: Kek[] = [];
  for (const [keyId, objects] of objectsByKeyId(usages)) {
    keks.push({ keyId, objects, ...(await proveByRoundTrip(keyId, ports)) });
  }
  const proven = await withStoredProofs(keks, ports);
  const missing = proven.filter(({ found }) => !found).length;
  const unproven = proven.filter(({ found, proven }) => found && !proven).length;
  const detail = [
    `${keks.length} needed by the snapshot`,
    `${keks.length - missing - unproven} proven`,
    ...(missing > 0 ? [`${missing} missing`] : []),
    ...(unproven > 0 ? [`${unproven} do not work`] : []),
  ].join(", ");
  return { detail, failed: missing + unproven > 0, keks: proven };
}

function objectsByKeyId(usages: readonly Usage[]): Map<string, number> {
  const byKeyId = new Map<string, number>();
  for (const { keyId, objects } of usages) {
    if (keyId !== null) byKeyId.set(keyId, (byKeyId.get(keyId) ?? 0) + objects);
  }
  return byKeyId;
}

function holdersOf(tokens: readonly Token[], isIt: (record: KekRecord) => boolean): Holder[] {
  return tokens.flatMap((token) => {
    const record = token.records?.find(isIt);
    return record === undefined ? [] : [{ token, record }];
  });
}

async function proveByRoundTrip(keyId: string, { tokens, settings }: ProofPorts): Promise<Proof> {
  const holders = holdersOf(tokens, (record) => hasKeyId(record, keyId));
  const problems: string[] = [];
  for (const { token, record } of holders) {
    try {
      const tried = await repeatedIfLate(() => token.hsm.probe(record.keyId, settings.mechanism));
      const works = tried.find((one) => one.works);
      if (works !== undefined) {
        return {
          found: true,
          proven: true,
          detail: `"${record.label}" on ${token.name}, ${works.mechanism}`,
        };
      }
      const reasons = tried.map(({ mechanism, detail }) => `${mechanism}: ${detail}`);
      problems.push(`${token.name}: ${reasons.join(", ")}`);
    } catch (error) {
      problems.push(`${token.name}: ${KmsError.from(error).message}`);
    }
  }
  if (holders.length > 0) return { found: true, proven: false, detail: problems.join("; ") };
  return { found: false, proven: false, detail: "no token holds it" };
}

/** Returns the KEKs, with those proven by a stored seed that no round trip has proven. */
async function withStoredProofs(keks: readonly Kek[], ports: ProofPorts): Promise<Kek[]> {
  const open = new Map<string, Holder[]>();
  for (const { keyId, found, proven } of keks) {
    // A KEK that no longer encrypts may have lost the fingerprint in its key_id.
    const isIt = (record: KekRecord): boolean =>
      found ? hasKeyId(record, keyId) : mayBeNamed(record, keyId);
    const holders = proven ? [] : holdersOf(ports.tokens, isIt);
    if (holders.length > 0) open.set(keyId, holders);
  }
  if (open.size === 0) return [...keks];
  const seeds = await storedSeeds(ports.store, new Set(open.keys()));
  const results: Kek[] = [];
  for (const kek of keks) {
    const proof = await proveByStored(open.get(kek.keyId) ?? [], seeds.get(kek.keyId) ?? [], ports);
    results.push({ ...kek, ...withProof(kek, proof) });
  }
  return results;
}

/** Returns up to MAX_SEEDS different seeds under each key_id. */
async function storedSeeds(
  store: ObjectStore,
  keyIds: ReadonlySet<string>,
): Promise<Map<string, SeedQuestion[]>> {
  const seeds = new Map<string, Map<string, SeedQuestion>>([...keyIds].map((keyId) => [keyId, new Map()]));
  for await (const { value } of store.objects()) {
    if (!("kind" in value) || value.kind !== "kms-v2") continue;
    const known = seeds.get(value.object.keyId);
    if (known === undefined || known.size >= MAX_SEEDS) continue;
    known.set(Buffer.from(value.object.encryptedSeed).toString("base64"), copyOf(value.object));
  }
  return new Map([...seeds].map(([keyId, known]) => [keyId, [...known.values()]]));
}

interface StoredProof {
  /** By which KEK; undefined if by none. */
  readonly by: Holder | undefined;
  readonly problems: readonly string[];
}

async function proveByStored(
  holders: readonly Holder[],
  seeds: readonly SeedQuestion[],
  { settings, operator }: ProofPorts,
): Promise<StoredProof> {
  const problems = new Set<string>();
  for (const holder of holders) {
    for (const seed of seeds) {
      const why = await proveByStoredSeed(holder.token, seed, settings, operator);
      if (why === undefined) return { by: holder, problems: [] };
      problems.add(why);
    }
  }
  return { by: undefined, problems: [...problems] };
}

function withProof({ found, proven, detail }: Kek, { by, problems }: StoredProof): Proof {
  if (by === undefined) return { found, proven, detail: [detail, ...problems].join("; ") };
  const { token, record } = by;
  const how = `"${record.label}" on ${token.name}, which decrypts a stored DEK seed and does not encrypt`;
  return { found: true, proven: true, detail: how };
}
