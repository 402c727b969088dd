// The cluster of most tests: an etcd, a token with a KEK, and API servers that each have a plugin of their own, like
// the nodes of a control plane.

import { ControlPlane } from "./control-plane.js";
import { identityProvider, kmsProvider, type EncryptionRule } from "./encryption-configuration.js";
import { createKek, type HsmToken } from "./hsm-token.js";
import type { KubeApiserver } from "./kube-apiserver.js";
import { Plugin, type PluginOptions } from "./plugin.js";
import { SoftHsmToken } from "./softhsm-token.js";

/** The options of a node. All nodes share one token, unless a node has its own clone. */
export type NodeOptions = Partial<PluginOptions> & {
  readonly resources?: readonly string[];
  readonly apiserverArgs?: readonly string[];
};

export interface Node {
  readonly plugin: Plugin;
  readonly apiserver: KubeApiserver;
}

/** The namespace of the tests' objects. */
export const NAMESPACE = "e2e";

/** Returns a rule that encrypts with the plugin and also reads objects that are still in clear. */
export function kmsRule(plugin: Plugin, resources: readonly string[] = ["secrets"]): EncryptionRule {
  return { resources, providers: [kmsProvider(plugin.places.socket), identityProvider] };
}

export class KmsCluster {
  readonly plane: ControlPlane;
  readonly token: HsmToken;
  readonly plugins: Plugin[] = [];

  private constructor(plane: ControlPlane, token: HsmToken) {
    this.plane = plane;
    this.token = token;
  }

  /**
   * Starts etcd, makes a token unless one is given, and makes a KEK on it unless `hasKek` is set; the test adds nodes.
   * The test must stop the cluster, even if a later step throws.
   */
  static async start(token?: HsmToken, hasKek = false): Promise<KmsCluster> {
    const withKek = token ?? (await SoftHsmToken.create());
    if (!hasKek) await createKek(withKek);
    return new KmsCluster(await ControlPlane.start(), withKek);
  }

  /** Adds a plugin and an API server that uses it, neither of them started. */
  async addNode(options: NodeOptions = {}): Promise<Node> {
    const { resources, apiserverArgs = [], ...rest } = options;
    const name = options.name ?? `plugin-${this.plugins.length + 1}`;
    const plugin = await Plugin.create({ token: this.token, ...rest, name });
    this.plugins.push(plugin);
    const encryption = [kmsRule(plugin, resources)];
    const apiserver = await this.plane.addApiserver({ encryption, extraArgs: apiserverArgs });
    return { plugin, apiserver };
  }

  /** Adds a node, starts both processes and waits until they are ready. The first node creates the tests' namespace. */
  async startNode(options: NodeOptions = {}): Promise<Node> {
    const node = await this.addNode(options);
    await node.plugin.start();
    await node.apiserver.start();
    if (this.plugins.length === 1) await node.apiserver.client.createNamespace(NAMESPACE);
    return node;
  }

  /** Stops the API servers, etcd and then the plugins. Every plugin must exit by itself. */
  async stop(): Promise<void> {
    await this.plane.stop();
    await Promise.all(this.plugins.map((plugin) => plugin.stop()));
  }
}
