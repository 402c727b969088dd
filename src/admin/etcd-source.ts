// Where stored objects are read from for the length of one operation: a running etcd, or a snapshot of one.
import { EtcdStore, type ObjectStore } from "../etcd/store.js";
import type { CountObserver } from "../etcd/count-objects.js";
import { EtcdClient } from "../etcd/client.js";
import type { EtcdAccess } from "../etcd/endpoints.js";
import type { SnapshotOptions } from "../etcd/snapshot/snapshot-file.js";
import { Snapshot } from "../etcd/snapshot/snapshot-store.js";
import type { UsageSource } from "../etcd/usage-report.js";
import { KmsError } from "../errors.js";
import type { Operator } from "./operator.js";

export interface EtcdSource {
  readonly source: UsageSource;
  /** @param prefix kube-apiserver's `--etcd-prefix` or a longer one, with or without slashes at either end */
  store(prefix: string): ObjectStore;
}

const MIB = 2 ** 20;

export interface LiveEtcd extends EtcdSource {
  store(prefix: string): EtcdStore;
}

export interface SnapshotSource extends EtcdSource {
  /** When the file was written last, in ms since the epoch. */
  readonly writtenAt: number;
}

/** Connects to a running etcd. @throws KmsError CONFIG_INVALID, PEER_UNREACHABLE */
export async function withLiveEtcd<T>(access: EtcdAccess, use: (etcd: LiveEtcd) => Promise<T>): Promise<T> {
  const client = new EtcdClient(access);
  try {
    const { id, version } = await client.cluster();
    return await use({
      source: { kind: "etcd", endpoints: [...access.endpoints], clusterId: id, etcdVersion: version },
      store: (prefix) => new EtcdStore(client, prefix),
    });
  } finally {
    client.close();
  }
}

/**
 * Opens a snapshot file and verifies its hash, with progress.
 * @throws KmsError CONFIG_INVALID if it is not a sound snapshot
 */
export async function withSnapshot<T>(
  file: string,
  options: Pick<SnapshotOptions, "skipHashCheck" | "option">,
  operator: Operator,
  use: (source: SnapshotSource) => Promise<T>,
): Promise<T> {
  const progress = operator.startProgress("MiB of the snapshot checked", 0);
  const onHashed = (bytes: number, total: number): void => {
    progress.update(bytes / MIB, total / MIB);
  };
  const snapshot = await Snapshot.open(file, { ...options, onHashed }).finally(() => {
    progress.end();
  });
  try {
    return await use({
      source: { kind: "snapshot", sha256: snapshot.sha256 },
      writtenAt: snapshot.writtenAt,
      store: (prefix) => snapshot.store(prefix),
    });
  } finally {
    await snapshot.close();
  }
}

/**
 * Runs work that counts all objects under a prefix, with progress.
 * @throws KmsError as the work does; INPUT_INVALID if it has counted no object
 */
export async function withCountProgress<T>(
  prefix: string,
  operator: Operator,
  count: (observer: CountObserver) => Promise<T>,
): Promise<T> {
  let progress = operator.startProgress("objects", 0);
  let done = 0;
  try {
    const result = await count({
      total: (objects, isEstimate) => {
        progress.update(done, objects, isEstimate);
      },
      counted: (objects) => {
        progress.update((done = objects));
      },
      compacted: (revision) => {
        // A line may not be written into the display.
        progress.end();
        operator.notify(
          `etcd has compacted the revision that was being read; reading continues at revision ${revision}`,
        );
        progress = operator.startProgress("objects", 0);
      },
    });
    if (done > 0) return result;
  } finally {
    progress.end();
  }
  throw new KmsError(
    "INPUT_INVALID",
    `there is no key under ${prefix}; give kube-apiserver's --etcd-prefix as --prefix`,
  );
}
