// Where stored objects are read from for the length of one operation: a running etcd, or a snapshot of one.
import { EtcdStore, type ObjectStore, type StoredObject } from "../etcd/store.js";
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

export interface LiveEtcd extends EtcdSource {
  store(prefix: string): EtcdStore;
}

const PROGRESS_EVERY = 500;

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

/** Opens a snapshot file and verifies its hash. @throws KmsError CONFIG_INVALID if it is not a sound snapshot */
export async function withSnapshot<T>(
  file: string,
  options: SnapshotOptions,
  use: (source: EtcdSource) => Promise<T>,
): Promise<T> {
  const snapshot = await Snapshot.open(file, options);
  try {
    return await use({
      source: { kind: "snapshot", sha256: snapshot.sha256 },
      store: (prefix) => snapshot.store(prefix),
    });
  } finally {
    await snapshot.close();
  }
}

/** Visits every object under a prefix, with progress. @throws KmsError INPUT_INVALID if there is none */
export async function forEachObject(
  store: ObjectStore,
  prefix: string,
  operator: Operator,
  visit: (object: StoredObject) => void | Promise<void>,
): Promise<void> {
  const progress = operator.startProgress("objects", 0);
  let done = 0;
  let total = 0;
  try {
    const objects = store.objects({
      total: (objects) => (total = objects),
      compacted: (revision) => {
        operator.notify(
          `etcd has compacted the revision that was being read; reading continues at revision ${revision}`,
        );
      },
    });
    for await (const object of objects) {
      const pending = visit(object);
      if (pending !== undefined) await pending;
      if (++done % PROGRESS_EVERY === 0) progress.update(done, total);
    }
  } finally {
    progress.end();
  }
  if (done === 0) {
    throw new KmsError(
      "INPUT_INVALID",
      `there is no key under ${prefix}; give kube-apiserver's --etcd-prefix as --prefix`,
    );
  }
}
