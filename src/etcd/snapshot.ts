// Reads a snapshot file with etcd itself: etcdutl restores it into a temporary folder, and a private etcd serves it on
// a unix socket in that folder, which no other user can reach. The operator provides both programs.
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { closeSync, createWriteStream, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { KmsError } from "../errors.js";
import { openRegular } from "../files/regular-file.js";
import { truncate } from "../untrusted-text.js";
import { EtcdClient } from "./client.js";

export interface SnapshotPrograms {
  /** Paths, or names to find in PATH. */
  readonly etcd: string;
  readonly etcdutl: string;
}

const READY_MS = 60_000;
const POLL_MS = 50;
const MAX_REASON = 300;
/** The path of a unix socket has at most 107 bytes. */
const MAX_FOLDER_BYTES = 90;
/** Not the caller's environment, in which ETCD_ variables would configure the private etcd. */
const CHILD_ENV = { PATH: process.env["PATH"] ?? "" };

export class Snapshot {
  readonly client: EtcdClient;
  /** The file's digest in hexadecimal. */
  readonly sha256: string;
  readonly #folder: string;
  readonly #etcd: ChildProcess;

  private constructor(client: EtcdClient, sha256: string, folder: string, etcd: ChildProcess) {
    this.client = client;
    this.sha256 = sha256;
    this.#folder = folder;
    this.#etcd = etcd;
  }

  /**
   * Restores and serves a snapshot. Needs temporary space of twice its size, which `close` frees.
   * @throws KmsError CONFIG_INVALID if the file is not a snapshot or a program is missing; PEER_UNREACHABLE if the
   * private etcd does not start
   */
  static async open(file: string, programs: SnapshotPrograms): Promise<Snapshot> {
    const folder = mkdtempSync(join(tmpdir(), "kms-pkcs11-snapshot-"));
    try {
      if (Buffer.byteLength(folder) > MAX_FOLDER_BYTES) {
        throw new KmsError("CONFIG_INVALID", `${folder} is too long for a unix socket; set a shorter TMPDIR`);
      }
      const copy = join(folder, "snapshot.db");
      const sha256 = await copyAndHash(file, copy);
      await restore(programs.etcdutl, copy, join(folder, "data"), file);
      rmSync(copy);
      const etcd = startEtcd(programs.etcd, folder);
      const client = new EtcdClient({ endpoints: [`unix://${join(folder, "client")}`] });
      const snapshot = new Snapshot(client, sha256, folder, etcd);
      process.once("exit", snapshot.#end);
      try {
        await snapshot.#ready(programs.etcd);
      } catch (error) {
        await snapshot.close();
        throw error;
      }
      return snapshot;
    } catch (error) {
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  async close(): Promise<void> {
    this.client.close();
    const ended = new Promise((resolve) => this.#etcd.once("exit", resolve));
    const isRunning = this.#etcd.pid !== undefined && this.#etcd.exitCode === null;
    this.#end();
    if (isRunning && this.#etcd.signalCode === null) await ended;
    process.off("exit", this.#end);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Kills etcd: nothing in the folder is needed again. */
  readonly #end = (): void => {
    this.#etcd.kill("SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true });
  };

  async #ready(program: string): Promise<void> {
    let failure: Error | undefined;
    this.#etcd.once("error", (error) => (failure = error));
    const deadline = performance.now() + READY_MS;
    for (;;) {
      try {
        // A linearizable read is answered when the only member has elected itself.
        await this.client.range({ key: Buffer.of(0), limit: 1 });
        return;
      } catch (error) {
        if (failure !== undefined) throw missing("--etcd-bin", program, failure);
        if (this.#etcd.exitCode !== null || performance.now() > deadline) {
          const reason = lastLine(readFileSync(join(this.#folder, "log"), "utf8"));
          throw new KmsError("PEER_UNREACHABLE", `${program} does not serve the snapshot: ${reason}`, error);
        }
        await sleep(POLL_MS);
      }
    }
  }
}

/** Copies the snapshot, so that the restored bytes are the hashed bytes. Returns the SHA-256 in hexadecimal. */
async function copyAndHash(file: string, copy: string): Promise<string> {
  const hash = createHash("sha256");
  const handle = await openSnapshot(file);
  try {
    await pipeline(
      handle.createReadStream({ autoClose: false }),
      async function* (chunks: AsyncIterable<Buffer>) {
        for await (const chunk of chunks) {
          hash.update(chunk);
          yield chunk;
        }
      },
      createWriteStream(copy, { flags: "wx", mode: 0o600 }),
    );
  } finally {
    await handle.close();
  }
  return hash.digest("hex");
}

async function openSnapshot(file: string): Promise<FileHandle> {
  try {
    return await openRegular(file);
  } catch (error) {
    throw new KmsError("CONFIG_INVALID", `--snapshot: ${file} cannot be read; give a readable file`, error);
  }
}

async function restore(program: string, copy: string, folder: string, file: string): Promise<void> {
  try {
    await promisify(execFile)(program, ["snapshot", "restore", copy, "--data-dir", folder], {
      env: CHILD_ENV,
    });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") throw missing("--etcdutl-bin", program, error);
    const reason = lastLine((error as { stderr?: string }).stderr ?? "");
    const message = `--snapshot: ${program} cannot restore ${file}: ${reason}`;
    throw new KmsError("CONFIG_INVALID", message, error);
  }
}

function startEtcd(program: string, folder: string): ChildProcess {
  const log = openSync(join(folder, "log"), "a", 0o600);
  try {
    return spawn(
      program,
      [
        `--data-dir=${join(folder, "data")}`,
        `--listen-client-urls=unix://${join(folder, "client")}`,
        // etcd requires both addresses. Nobody calls the first; the second is a socket in the working folder.
        "--advertise-client-urls=http://localhost:2379",
        "--listen-peer-urls=unix://localhost:2380",
        "--heartbeat-interval=10",
        "--election-timeout=100",
        "--unsafe-no-fsync",
        "--log-level=error",
      ],
      { cwd: folder, env: CHILD_ENV, stdio: ["ignore", log, log] },
    );
  } finally {
    closeSync(log);
  }
}

function missing(option: string, program: string, cause: unknown): KmsError {
  const what = `${program} cannot be started; install the etcd release of this cluster, or give the program's path`;
  return new KmsError("CONFIG_INVALID", `${option}: ${what}`, cause);
}

function lastLine(text: string): string {
  return truncate(text.trim().split("\n").at(-1) ?? "", MAX_REASON);
}
