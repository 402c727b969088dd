// A real etcd of three members on loopback, whose leader can be frozen, so that the others elect another one.

import { rmSync } from "node:fs";
import { join } from "node:path";
import { EtcdStore } from "../e2e/harness/etcd-store.js";
import { ManagedProcess } from "../e2e/harness/process.js";
import { freePort } from "./free-port.js";
import { makeFolder } from "./token.js";
import { waitFor } from "./wait.js";

const MEMBERS = 3;

interface Member {
  readonly endpoint: string;
  readonly process: ManagedProcess;
}

export class EtcdMembers {
  readonly #members: readonly Member[];
  readonly #folder: string;

  private constructor(members: readonly Member[], folder: string) {
    this.#members = members;
    this.#folder = folder;
  }

  /** Starts the members and waits until they have a leader. */
  static async start(): Promise<EtcdMembers> {
    const folder = makeFolder("etcd-members");
    const ports = await Promise.all(Array.from({ length: 2 * MEMBERS }, () => freePort()));
    const urls = ports.map((port) => `http://127.0.0.1:${port}`);
    const peers = urls.slice(MEMBERS);
    const cluster = peers.map((url, at) => `m${at}=${url}`).join(",");
    const members = urls.slice(0, MEMBERS).map((endpoint, at) => ({
      endpoint,
      process: ManagedProcess.start({
        name: `etcd member ${at}`,
        command: "etcd",
        args: [
          `--name=m${at}`,
          `--data-dir=${join(folder, `m${at}`)}`,
          `--listen-client-urls=${endpoint}`,
          `--advertise-client-urls=${endpoint}`,
          `--listen-peer-urls=${peers[at] ?? ""}`,
          `--initial-advertise-peer-urls=${peers[at] ?? ""}`,
          `--initial-cluster=${cluster}`,
          "--logger=zap",
          "--log-level=warn",
        ],
        logFile: join(folder, `m${at}.log`),
      }),
    }));
    const started = new EtcdMembers(members, folder);
    await waitFor(async () => (await started.#leader()) !== undefined, {
      what: "a leader of etcd",
      timeoutMs: 60_000,
    });
    return started;
  }

  /** Stores a value. */
  async put(key: string, value: string): Promise<void> {
    await new EtcdStore(this.#members[0]?.endpoint ?? "").put(key, Buffer.from(value));
  }

  /** Stops the leader's process without ending it. Returns the endpoints of the other members. */
  async freezeLeader(): Promise<{ readonly others: readonly string[] }> {
    const leader = await this.#leader();
    if (leader === undefined) throw new Error("etcd has no leader");
    leader.process.signal("SIGSTOP");
    return { others: this.#members.filter((one) => one !== leader).map(({ endpoint }) => endpoint) };
  }

  async remove(): Promise<void> {
    await Promise.all(this.#members.map(({ process }) => process.kill()));
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #leader(): Promise<Member | undefined> {
    for (const member of this.#members) {
      const { header, leader } = await statusOf(member.endpoint);
      if (leader !== undefined && leader !== "0" && leader === header?.member_id) return member;
    }
    return undefined;
  }
}

interface Status {
  readonly header?: { readonly member_id: string };
  readonly leader?: string;
}

async function statusOf(endpoint: string): Promise<Status> {
  const answer = await fetch(`${endpoint}/v3/maintenance/status`, { method: "POST", body: "{}" }).catch(
    () => undefined,
  );
  return answer?.ok === true ? ((await answer.json()) as Status) : {};
}
