// Decrypts every object of an etcd or a snapshot with the HSM, without an API server, and reports what cannot be
// decrypted.
import type { Settings } from "../config/settings.js";
import { verifyObjects } from "../etcd/count-objects.js";
import { HsmSeeds } from "../etcd/hsm-seeds.js";
import { Seeds, type SeedOutcome, type SeedQuestion } from "../etcd/seeds.js";
import type { ObjectStore, StoredObject } from "../etcd/store.js";
import type { UnreadableObject } from "../etcd/unreadable.js";
import { Verification, type VerificationResult } from "../etcd/verification.js";
import type { KmsProvider } from "../provider/kms.js";
import { withCountProgress, type EtcdSource } from "./etcd-source.js";
import type { Operator } from "./operator.js";
import { withProvider } from "./with-provider.js";

export interface Verified extends VerificationResult {
  readonly objects: number;
  /** The number of DEK seeds that the HSM was asked to decrypt. */
  readonly decrypts: number;
  readonly seconds: number;
}

/** Decrypts every object under a prefix. @throws KmsError if etcd or the HSM does not answer, or nothing is there */
export async function verifyStored(
  etcd: EtcdSource,
  prefix: string,
  settings: Settings,
  operator: Operator,
): Promise<Verified> {
  return withProvider(settings, operator, (provider) =>
    verifyWith(provider, etcd.store(prefix), { prefix, sessions: settings.hsm.sessions }, operator),
  );
}

export interface VerifyOptions {
  readonly prefix: string;
  /** Maximum number of calls to the HSM at a time. */
  readonly sessions: number;
  /** How many objects that cannot be decrypted are listed one by one; default: none. */
  readonly listed?: number;
  /** Called for each DEK seed that the HSM decrypted or refused. */
  readonly onSeed?: OnSeed;
}

type OnSeed = (question: SeedQuestion, outcome: SeedOutcome) => void;

/** Decrypts every object of a store. @throws KmsError as `verifyStored` */
export async function verifyWith(
  provider: Pick<KmsProvider, "decrypt">,
  store: ObjectStore,
  { prefix, sessions, listed, onSeed }: VerifyOptions,
  operator: Operator,
): Promise<Verified> {
  const startedAt = performance.now();
  const verify = async (seeds: Seeds, hsm: HsmSeeds): Promise<Verified> => {
    const result = await withCountProgress(prefix, operator, (observer) =>
      verifyObjects(store, seeds, { prefix, observer, ...(listed !== undefined && { listed }) }),
    );
    return {
      objects: result.resources.reduce((sum, { objects }) => sum + objects, 0),
      decrypts: hsm.decrypts,
      seconds: Math.round(performance.now() - startedAt) / 1000,
      ...result,
    };
  };
  return withSeeds(provider, sessions, verify, onSeed);
}

/** Decrypts one object. Returns why it cannot be decrypted; undefined if it can. @throws KmsError as `verifyStored` */
export function verifyObject(
  provider: Pick<KmsProvider, "decrypt">,
  stored: StoredObject,
  prefix: string,
): Promise<UnreadableObject | undefined> {
  return withSeeds(provider, 1, async (seeds) => {
    const verification = new Verification(seeds, prefix, 1);
    await verification.add(stored);
    return verification.result().unreadable?.objects[0];
  });
}

async function withSeeds<T>(
  provider: Pick<KmsProvider, "decrypt">,
  sessions: number,
  use: (seeds: Seeds, hsm: HsmSeeds) => Promise<T>,
  onSeed?: OnSeed,
): Promise<T> {
  const hsm = new HsmSeeds(provider, sessions);
  const seeds = new Seeds(async (question) => {
    const outcome = await hsm.load(question);
    onSeed?.(question, outcome);
    return outcome;
  });
  try {
    return await use(seeds, hsm);
  } finally {
    hsm.stop();
    seeds.clear();
  }
}
