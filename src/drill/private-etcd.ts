// An etcd of its own for a drill, with the snapshot restored by etcdutl. It listens on unix sockets in the private folder only,
// so that no other user reaches it.
import { mkdirSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { KmsError } from "../errors.js";
import { freeBytes } from "../files/writable-folder.js";
import { bareEnvironment, type ProcessGroup } from "./private-process.js";
import type { Program } from "./programs.js";
import type { Found } from "./step-clock.js";

const READY_MS = 120_000;
/** etcd allocates two files of its write-ahead log in advance. */
const LOG_BYTES = 160 * 2 ** 20;
/** etcd refuses writes to a database of 2 GiB by default, and a restored one may be larger. */
const QUOTA_BYTES = 16 * 2 ** 30;
/** Releases of etcd up to 3.5 require a form of host and port; the socket has this name in the folder. */
const CLIENTS = "etcd.sock:0";
const PEERS = "peer.sock:0";

export interface EtcdPlace {
  readonly etcd: Program;
  readonly etcdutl: Program;
  /** The private folder. */
  readonly folder: string;
  readonly snapshot: { readonly file: string; readonly bytes: number; readonly skipHashCheck: boolean };
  /** Put before each command. */
  readonly prefix: readonly string[];
  readonly processes: ProcessGroup;
}

/** A running etcd. */
export interface PrivateEtcd extends Found {
  /** For `--etcd-servers`. */
  readonly endpoint: string;
  readonly folder: string;
  stop(): Promise<void>;
}

/** Restores the snapshot and starts etcd on it. @throws KmsError */
export async function startPrivateEtcd(place: EtcdPlace): Promise<PrivateEtcd> {
  const folder = join(place.folder, "etcd");
  mkdirSync(folder, { mode: 0o700 });
  requireSpace(folder, place.snapshot.bytes);
  await restore(place, folder);
  const child = place.processes.start({
    name: "the private etcd",
    command: [...place.prefix, place.etcd.path, ...etcdArguments(folder)],
    folder,
    env: bareEnvironment(folder),
    logFile: join(folder, "etcd.log"),
  });
  const stop = (): Promise<void> => child.stop(false);
  try {
    await child.until(() => isHealthy(join(folder, CLIENTS)), READY_MS);
  } catch (error) {
    await stop();
    throw error;
  }
  const { etcd, etcdutl } = place;
  const detail = `etcd ${etcd.version} on what ${etcdutl.name} ${etcdutl.version} restored`;
  return { endpoint: `unix://${join(folder, CLIENTS)}`, folder, stop, detail };
}

function requireSpace(folder: string, bytes: number): void {
  const needed = 2 * bytes + LOG_BYTES;
  const free = freeBytes(folder);
  if (free >= needed) return;
  const [mib, freeMib] = [Math.ceil(needed / 2 ** 20), Math.floor(free / 2 ** 20)];
  throw new KmsError(
    "CONFIG_INVALID",
    `a private etcd needs ${mib} MiB and ${folder} has ${freeMib}; free some space, or set TMPDIR to another folder`,
  );
}

async function restore({ etcdutl, snapshot, prefix, processes }: EtcdPlace, folder: string): Promise<void> {
  const child = processes.start({
    name: `${etcdutl.name} snapshot restore`,
    command: [
      ...prefix,
      etcdutl.path,
      "snapshot",
      "restore",
      snapshot.file,
      "--data-dir",
      join(folder, "data"),
      ...(snapshot.skipHashCheck ? ["--skip-hash-check"] : []),
    ],
    folder,
    env: bareEnvironment(folder),
    logFile: join(folder, "restore.log"),
  });
  const code = await child.end();
  if (code !== 0) throw child.failure(`failed with exit code ${String(code)}`);
}

function etcdArguments(folder: string): string[] {
  return [
    `--data-dir=${join(folder, "data")}`,
    `--listen-client-urls=unix://${CLIENTS}`,
    `--listen-peer-urls=unix://${PEERS}`,
    // The address that etcd announces to other members, of which there are none.
    "--advertise-client-urls=http://localhost:2379",
    "--enable-grpc-gateway=false",
    `--quota-backend-bytes=${QUOTA_BYTES}`,
    "--log-level=warn",
  ];
}

function isHealthy(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = request({ socketPath, path: "/health", timeout: 2_000 }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => (body += text));
      response.on("end", () => {
        resolve(response.statusCode === 200 && body.includes('"true"'));
      });
    });
    asked.on("timeout", () => asked.destroy());
    asked.on("error", () => {
      resolve(false);
    });
    asked.end();
  });
}
