// The cluster on a node, as kubectl, crictl and etcdctl show it.

import { stringify } from "yaml";
import { until, type WaitOptions } from "../../e2e/harness/wait.js";
import type { KubernetesNode } from "./kubernetes-node.js";

export const PLUGIN = "http://127.0.0.1:8090";
const ETCDCTL =
  "etcdctl --endpoints https://127.0.0.1:2379 --cacert /etc/kubernetes/pki/etcd/ca.crt " +
  "--cert /etc/kubernetes/pki/etcd/server.crt --key /etc/kubernetes/pki/etcd/server.key";

/** Where a container of a pod is: its id, and how often kubelet has started it again. */
export interface ContainerState {
  readonly id: string;
  readonly restarts: number;
  readonly image: string;
}

/** Returns the documents that this machine needs beside the ClusterConfiguration: addresses, and kubelet without systemd. */
export function machineConfiguration(node: KubernetesNode): string {
  const init = {
    apiVersion: "kubeadm.k8s.io/v1beta4",
    kind: "InitConfiguration",
    localAPIEndpoint: { advertiseAddress: node.address, bindPort: 6443 },
    nodeRegistration: { name: node.hostName, criSocket: "unix:///run/containerd/containerd.sock" },
  };
  return [init, kubeletConfiguration(node)].map((document) => `${stringify(document)}---\n`).join("");
}

/** Returns the settings of a kubelet without systemd, on this machine. */
export function kubeletConfiguration(node: KubernetesNode): object {
  return {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    failCgroupV1: false,
    cgroupDriver: "cgroupfs",
    cgroupRoot: `/${node.cgroup}`,
    containerRuntimeEndpoint: "unix:///run/containerd/containerd.sock",
    failSwapOn: false,
    oomScoreAdj: 0,
    maxOpenFiles: 20_000,
    enforceNodeAllocatable: ["none"],
    evictionHard: {
      "memory.available": "1Mi",
      "nodefs.available": "0%",
      "imagefs.available": "0%",
      "nodefs.inodesFree": "0%",
      "imagefs.inodesFree": "0%",
    },
    imageGCHighThresholdPercent: 100,
  };
}

export class Cluster {
  readonly #node: KubernetesNode;

  constructor(node: KubernetesNode) {
    this.#node = node;
  }

  async createSecret(name: string, value: string): Promise<void> {
    await this.#node.run(`kubectl create secret generic ${name} --from-file=value=/dev/stdin`, {
      input: value,
    });
  }

  /** Returns the Secret's value, or throws if the API server cannot read it. */
  async readSecret(name: string): Promise<string> {
    const command = `timeout 10 kubectl get secret ${name} -o jsonpath={.data.value}`;
    return Buffer.from(await this.#node.run(command), "base64").toString();
  }

  /** Returns the bytes of the Secret in etcd, as Latin-1. */
  async storedSecret(name: string): Promise<string> {
    const command = `${ETCDCTL} get --print-value-only /registry/secrets/default/${name} | base64 -w 0`;
    return Buffer.from(await this.#node.run(command), "base64").toString("latin1");
  }

  /** Waits until the API server returns the Secret; returns the time in seconds. */
  async untilReadable(name: string, value: string, options: WaitOptions = {}): Promise<number> {
    const start = Date.now();
    await until(`Secret ${name}`, async () => (await this.readSecret(name)) === value, {
      timeoutMs: 300_000,
      intervalMs: 500,
      ...options,
    });
    return (Date.now() - start) / 1000;
  }

  /**
   * Waits until the condition holds, and reads the Secret before each time it is asked for. Returns what the reads that failed
   * said.
   */
  async failedReads(
    name: string,
    value: string,
    condition: () => Promise<boolean> | boolean,
    options: WaitOptions,
  ): Promise<string[]> {
    const failures: string[] = [];
    const read = async (): Promise<boolean> => {
      await this.readSecret(name).then(
        (read) => read === value || failures.push(`another value: ${read}`),
        (error: unknown) => failures.push(String(error)),
      );
      return condition();
    };
    await until("the condition while reading", read, { intervalMs: 1000, ...options });
    return failures;
  }

  /** Waits until an endpoint of the plugin has this HTTP status; returns the time in seconds. */
  async untilPlugin(path: string, status: number, timeoutMs = 120_000): Promise<number> {
    const start = Date.now();
    const arrived = async (): Promise<boolean> => (await this.#node.httpStatus(PLUGIN + path)) === status;
    await until(`${path} ${status}`, arrived, { timeoutMs, intervalMs: 250 });
    return (Date.now() - start) / 1000;
  }

  /** Returns the running containers by their names. */
  async containers(): Promise<Map<string, ContainerState>> {
    interface Listing {
      containers: {
        id: string;
        state: string;
        metadata: { name: string; attempt: number };
        imageRef: string;
      }[];
    }
    const { containers } = JSON.parse(await this.#node.run("crictl ps -o json")) as Listing;
    return new Map(
      containers.map(({ id, metadata: { name, attempt }, imageRef }) => [
        name,
        { id, restarts: attempt, image: imageRef },
      ]),
    );
  }

  /** Returns whether the API server reports the plugin's pod as ready. */
  async isPodReady(): Promise<boolean> {
    const path = `jsonpath='{.status.conditions[?(@.type=="Ready")].status}'`;
    return (await this.#node.run(`kubectl get pod -n kube-system kms-pkcs11-kms-node -o ${path}`)) === "True";
  }
}
