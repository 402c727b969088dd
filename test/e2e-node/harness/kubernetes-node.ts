// A node of its own on this machine: namespaces with containerd and kubelet, which survive nothing but what a disk keeps.
// Knows how it boots and loses its power, not what runs on it.

import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "../../e2e/harness/wait.js";
import { runCommand } from "./command.js";
import { Machine, entering } from "./machine.js";

const HARNESS = fileURLToPath(new URL(".", import.meta.url));
const CGROUPS = "/sys/fs/cgroup";

const ENVIRONMENT = [
  "CONTAINER_RUNTIME_ENDPOINT=unix:///run/containerd/containerd.sock",
  "KUBECONFIG=/etc/kubernetes/admin.conf",
];

export interface NodeOptions {
  /** Default kms-node. */
  readonly hostName?: string;
  /** In 10.77.0.0/24. Default 10.77.0.1. */
  readonly address?: string;
  /** What it sees as /opt/hsm. Default the folder hsm on its own disk. */
  readonly hsm?: string;
}

export class KubernetesNode extends Machine {
  readonly name: string;
  readonly folder: string;
  readonly hostName: string;
  readonly address: string;
  readonly #programs: string;
  readonly #hsm: string;
  /** unshare(1), whose only child is the node's process 1. */
  #unshare: number | undefined;
  #init = 0;

  /**
   * @param name unique on this machine
   * @param folder what the node's disk holds
   * @param programs the Kubernetes programs, which are in its path
   */
  constructor(name: string, folder: string, programs: string, options: NodeOptions = {}) {
    super();
    this.name = name;
    this.folder = folder;
    this.hostName = options.hostName ?? "kms-node";
    this.address = options.address ?? "10.77.0.1";
    this.#programs = programs;
    this.#hsm = options.hsm ?? join(folder, "hsm");
  }

  /** The group of the node's processes in every hierarchy. */
  get cgroup(): string {
    return `kms-pkcs11-${this.name}`;
  }

  protected override enter(): readonly string[] {
    return [...entering(this.#init, `${this.#programs}:`), ...ENVIRONMENT];
  }

  /** Boots the node and returns when containerd answers. */
  async boot(): Promise<void> {
    await mkdir(this.folder, { recursive: true });
    await mkdir(this.#hsm, { recursive: true });
    const booted = join(this.folder, "booted");
    rmSync(booted, { force: true });
    const namespaces = [
      "--mount",
      "--net",
      "--pid",
      "--uts",
      "--ipc",
      "--fork",
      "--kill-child",
      "--mount-proc",
    ];
    const init = [
      ...[join(HARNESS, "node-init.sh"), this.folder, this.#programs, HARNESS, this.cgroup],
      ...[this.hostName, this.address, this.#hsm],
    ];
    const child = spawn("setpriv", ["--pdeathsig", "KILL", "unshare", ...namespaces, ...init], {
      stdio: ["ignore", "inherit", "inherit"],
    });
    this.#unshare = child.pid;
    await until("the node's process 1", () => existsSync(booted));
    this.#init = Number(readFileSync(`/proc/${this.#unshare}/task/${this.#unshare}/children`, "utf8").trim());
    await until("containerd", async () => (await this.try("ctr version")).code === 0);
  }

  /** Lays a cable to another node; both must be booted. Each then reaches the other, by its name too. */
  async connect(other: KubernetesNode): Promise<void> {
    const [here, there] = [this, other].map((node) => String(node.#init)) as [string, string];
    const cable = ["type", "veth", "peer", "name", "cable", "netns", there];
    await runCommand(["ip", "link", "add", "cable", "netns", here, ...cable]);
    await this.#plugIn(other);
    await other.#plugIn(this);
  }

  async #plugIn(peer: KubernetesNode): Promise<void> {
    const route = `ip route add ${peer.address}/32 dev cable src ${this.address}`;
    await this.run(`ip link set cable up && ${route}`);
    for (const { address, hostName } of [this, peer]) {
      await this.run(`echo ${address} ${hostName} >>/etc/hosts`);
    }
  }

  /** Ends every process of the node at once, as a power failure does, and returns when none is left. */
  async pullPlug(): Promise<void> {
    const unshare = this.#unshare;
    if (unshare === undefined) return;
    // Its process 1, or unshare itself, if the boot failed before that was known.
    process.kill(this.#init === 0 ? unshare : this.#init, "SIGKILL");
    await until("the node's end", () => !existsSync(`/proc/${unshare}/exe`));
    this.#unshare = undefined;
    this.#init = 0;
  }

  /** Removes what the node leaves behind on this machine besides its folder. */
  async remove(): Promise<void> {
    await this.pullPlug();
    removeGroups(join(CGROUPS, this.cgroup));
    for (const hierarchy of readdirSync(CGROUPS)) removeGroups(join(CGROUPS, hierarchy, this.cgroup));
  }
}

function removeGroups(folder: string): void {
  if (!existsSync(folder)) return;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) removeGroups(join(folder, entry.name));
  }
  try {
    rmdirSync(folder);
  } catch {
    // A process of the node is still ending. The next run uses the group again.
  }
}
