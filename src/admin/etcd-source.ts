// Where stored objects are read from for the length of one operation: a running etcd, or a snapshot of one.
import type { EtcdStore, StoredObject } from "../etcd/store.js";
import { EtcdClient } from "../etcd/client.js";
import type { EtcdAccess } from "../etcd/endpoints.js";
import { Snapshot } from "../etcd/snapshot.js";
import type { UsageSource } from "../etcd/usage-report.js";
import { KmsError } from "../errors.js";
import { exitOnInterrupt } from "./interrupts.js";
import type { Operator } from "./operator.js";

export interface EtcdSource {
  readonly client: EtcdClient;
  readonly source: UsageSource;
}

export interface SnapshotFile {
  readonly file: string;
  /** The etcd and etcdutl programs that restore and serve it. */
  readonly programs: { readonly etcd: string; readonly etcdutl: string };
}

const PROGRESS_EVERY = 500;

/** Connects to a running etcd. @throws KmsError CONFIG_INVALID, PEER_UNREACHABLE */
export async function withLiveEtcd<T>(
  access: EtcdAccess,
  use: (source: EtcdSource) => Promise<T>,
): Promise<T> {
  const client = new EtcdClient(access);
  try {
    const { id, version } = await client.cluster();
    const source = { kind: "etcd", endpoints: [...access.endpoints], clusterId: id, etcdVersion: version };
    return await use({ client, source } as EtcdSource);
  } finally {
    client.close();
  }
}

/** Restores and serves a snapshot. @throws KmsError CONFIG_INVALID, PEER_UNREACHABLE */
export async function withSnapshot<T>(
  { file, programs }: SnapshotFile,
  use: (source: EtcdSource) => Promise<T>,
): Promise<T> {
  // An exit removes the restored snapshot; a signal alone would not.
  const stopListening = exitOnInterrupt();
  try {
    const snapshot = await Snapshot.open(file, programs);
    try {
      return await use({ client: snapshot.client, source: { kind: "snapshot", sha256: snapshot.sha256 } });
    } finally {
      await snapshot.close();
    }
  } finally {
    stopListening();
  }
}

/** Visits every object under a prefix, with progress. @throws KmsError INPUT_INVALID if there is none */
export async function forEachObject(
  store: EtcdStore,
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
