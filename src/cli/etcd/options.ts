// The options of the etcd commands: where the objects are, in etcd or in a snapshot of it, named as etcdctl names
// them; and the connection for the length of one command.
import { Option, type Command } from "commander";
import { EtcdClient } from "../../etcd/client.js";
import type { EtcdAccess } from "../../etcd/endpoints.js";
import { Snapshot } from "../../etcd/snapshot.js";
import { type EtcdStore, type StoredObject } from "../../etcd/store.js";
import type { UsageSource } from "../../etcd/usage-report.js";
import { KmsError } from "../../errors.js";
import type { OutputFormat, Terminal } from "../output.js";
import { startProgress } from "../progress.js";

export interface EndpointOptions {
  readonly endpoints?: string;
  readonly cacert?: string;
  readonly cert?: string;
  readonly key?: string;
}

export interface SourceOptions extends EndpointOptions {
  readonly snapshot?: string;
  readonly etcdBin: string;
  readonly etcdutlBin: string;
  readonly output: OutputFormat;
}

export interface EtcdOptions extends SourceOptions {
  readonly prefix: string;
}

const DEFAULT_ENDPOINT = "127.0.0.1:2379";
export const DEFAULT_PREFIX = "/registry/";

export function addEtcdOptions(command: Command): Command {
  return addSourceOptions(command).option(
    "--prefix <prefix>",
    "keys to read; kube-apiserver's --etcd-prefix",
    DEFAULT_PREFIX,
  );
}

export function addSourceOptions(command: Command): Command {
  return addEndpointOptions(command)
    .option("--snapshot <file>", "read a snapshot that 'etcdctl snapshot save' made, instead of an etcd")
    .option("--etcd-bin <program>", "etcd, to serve a snapshot", "etcd")
    .option("--etcdutl-bin <program>", "etcdutl, to restore a snapshot", "etcdutl");
}

/** For a command that reads a running etcd only. */
export function addEndpointOptions(command: Command): Command {
  const file = (flags: string, what: string, env: string): Option => new Option(flags, what).env(env);
  return command
    .addOption(
      file(
        "--endpoints <list>",
        `etcd's, separated by commas (default: ${DEFAULT_ENDPOINT})`,
        "ETCDCTL_ENDPOINTS",
      ),
    )
    .addOption(file("--cacert <file>", "CA of etcd's certificate, PEM", "ETCDCTL_CACERT"))
    .addOption(file("--cert <file>", "client certificate for etcd, PEM", "ETCDCTL_CERT"))
    .addOption(file("--key <file>", "private key of the client certificate, PEM", "ETCDCTL_KEY"));
}

export function etcdAccess({ endpoints, cacert, cert, key }: EndpointOptions): EtcdAccess {
  return {
    endpoints: (endpoints ?? DEFAULT_ENDPOINT)
      .split(",")
      .map((one) => one.trim())
      .filter((one) => one !== ""),
    ...(cacert !== undefined && { cacert }),
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
  };
}

export interface EtcdSource {
  readonly client: EtcdClient;
  readonly source: UsageSource;
}

/** @throws KmsError CONFIG_INVALID, PEER_UNREACHABLE */
export async function withEtcd<T>(
  options: SourceOptions,
  use: (source: EtcdSource) => Promise<T>,
): Promise<T> {
  if (options.snapshot === undefined) return withLiveEtcd(options, use);
  const stopListening = endOnSignals();
  try {
    const snapshot = await Snapshot.open(options.snapshot, {
      etcd: options.etcdBin,
      etcdutl: options.etcdutlBin,
    });
    try {
      return await use({ client: snapshot.client, source: { kind: "snapshot", sha256: snapshot.sha256 } });
    } finally {
      await snapshot.close();
    }
  } finally {
    stopListening();
  }
}

/** @throws KmsError CONFIG_INVALID, PEER_UNREACHABLE */
export async function withLiveEtcd<T>(
  options: EndpointOptions,
  use: (source: EtcdSource) => Promise<T>,
): Promise<T> {
  const access = etcdAccess(options);
  const client = new EtcdClient(access);
  try {
    const { id, version } = await client.cluster();
    const source = { kind: "etcd", endpoints: [...access.endpoints], clusterId: id, etcdVersion: version };
    return await use({ client, source } as EtcdSource);
  } finally {
    client.close();
  }
}

const SIGNALS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

/** An interrupted command ends as an exit does, so that the restored snapshot does not stay behind. */
function endOnSignals(): () => void {
  const handlers = Object.entries(SIGNALS).map(([signal, code]) => {
    const handler = (): void => process.exit(code);
    process.once(signal, handler);
    return { signal, handler };
  });
  return () => {
    for (const { signal, handler } of handlers) process.off(signal, handler);
  };
}

/** Hands over every object, with a progress bar. @throws KmsError INPUT_INVALID when there is none at all */
export async function forEachObject(
  store: EtcdStore,
  prefix: string,
  terminal: Terminal,
  use: (object: StoredObject) => void | Promise<void>,
): Promise<void> {
  const progress = startProgress(terminal, "objects", 0);
  let done = 0;
  let total = 0;
  try {
    const objects = store.objects({
      total: (objects) => (total = objects),
      movedOn: (revision) => {
        terminal.err(
          `etcd has compacted the revision that was read; the rest is read at revision ${revision}`,
        );
      },
    });
    for await (const object of objects) {
      const pending = use(object);
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

const PROGRESS_EVERY = 500;
