// Counts all objects of a store on all cores: takes the census, or verifies that every object can be decrypted.
import { availableParallelism } from "node:os";
import { KmsError } from "../errors.js";
import { Census } from "./census.js";
import type { RangeObserver } from "./range-scan.js";
import type { Seeds } from "./seeds.js";
import type { Batch, ObjectStore } from "./store.js";
import { countInThreads } from "./threads/counting-threads.js";
import type { Kind, Parts } from "./threads/messages.js";
import { Verification, type VerificationResult } from "./verification.js";

export interface CountObserver extends RangeObserver {
  /** Called with the number of objects that have been counted. */
  counted?(objects: number): void;
}

export interface CountOptions {
  /** kube-apiserver's `--etcd-prefix`. */
  readonly prefix: string;
  readonly observer?: CountObserver;
  /** How many objects that cannot be decrypted a verification lists one by one; default: none. */
  readonly listed?: number;
  /** The built threads/counting-thread.js; default: the one of this build. */
  readonly threadEntry?: URL;
}

/** Each takes about 40 MB. */
const MAX_THREADS = 4;

/** Takes the census of all objects. @throws KmsError as the store does; INPUT_INVALID if it cannot be a cluster's etcd */
export async function takeCensus(store: ObjectStore, options: CountOptions): Promise<Census> {
  const census = new Census(options);
  const read = await countAll("census", store, options, (part) => {
    census.merge(part);
  });
  requireAll(read, census.objects);
  return census;
}

/** Verifies all objects. @throws KmsError as the store and the seeds do; INPUT_INVALID for too many resources */
export async function verifyObjects(
  store: ObjectStore,
  seeds: Seeds,
  options: CountOptions,
): Promise<VerificationResult> {
  const verification = new Verification(seeds, options.prefix, options.listed);
  const merge = (part: VerificationResult): void => {
    verification.merge(part);
  };
  const read = await countAll("verification", store, options, merge, seeds);
  const result = verification.result();
  requireAll(
    read,
    result.resources.reduce((sum, { objects }) => sum + objects, 0),
  );
  return result;
}

/** Returns the number of objects that were read. */
async function countAll<K extends Kind>(
  kind: K,
  store: ObjectStore,
  { prefix, observer = {}, listed, threadEntry }: CountOptions,
  merge: (part: Parts[K]) => void,
  seeds?: Seeds,
): Promise<number> {
  let read = 0;
  async function* batches(): AsyncGenerator<Batch, void> {
    for await (const batch of store.batches(observer)) {
      read += batch.objects;
      yield batch;
    }
  }
  const parts = await countInThreads({ kind, prefix, ...(listed !== undefined && { listed }) }, batches(), {
    threads: threadsFor(kind),
    counted: (objects) => observer.counted?.(objects),
    ...(seeds !== undefined && { seeds }),
    ...(threadEntry !== undefined && { entry: threadEntry }),
  });
  for (const part of parts) merge(part);
  return read;
}

/** Returns how many threads count: a census costs about as much as the scan, which has a core of its own. */
function threadsFor(kind: Kind): number {
  const cores = availableParallelism();
  return Math.min(kind === "census" ? Math.max(1, cores - 1) : cores, MAX_THREADS);
}

/** A report that leaves objects out could cost a KEK that they need. */
function requireAll(read: number, counted: number): void {
  if (read === counted) return;
  throw new KmsError("INTERNAL", `${read} objects were read and ${counted} counted; report this as a defect`);
}
