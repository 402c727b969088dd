// The cluster of most cases: an etcd, a token with a KEK, and API servers that each have a plugin of their
// own, as the nodes of a control plane do.

import { ControlPlane } from "./control-plane.js";
import { identityProvider, kmsProvider, type EncryptionRule } from "./encryption-configuration.js";
import { createKek, type HsmToken } from "./hsm-token.js";
import type { KubeApiserver } from "./kube-apiserver.js";
import { Plugin, type PluginOptions } from "./plugin.js";
import { SoftHsmToken } from "./softhsm-token.js";

/** What a node is started with; its token is the one that all share, unless it has a clone of its own. */
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

/** Encrypts with the plugin and reads what is still in clear. */
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
   * etcd and a token with a KEK, made here unless it has one; nodes are added. The test must stop it, even when a later
   * step throws.
   */
  static async start(token?: HsmToken, hasKek = false): Promise<KmsCluster> {
    const withKek = token ?? (await SoftHsmToken.create());
    if (!hasKek) await createKek(withKek);
    return new KmsCluster(await ControlPlane.start(), withKek);
  }

  /** A plugin and an API server that uses it, neither of them started. */
  async addNode(options: NodeOptions = {}): Promise<Node> {
    const { resources, apiserverArgs = [], ...rest } = options;
    const name = options.name ?? `plugin-${this.plugins.length + 1}`;
    const plugin = await Plugin.create({ token: this.token, ...rest, name });
    this.plugins.push(plugin);
    const encryption = [kmsRule(plugin, resources)];
    const apiserver = await this.plane.addApiserver({ encryption, extraArgs: apiserverArgs });
    return { plugin, apiserver };
  }

  /** A node with both started and ready, and the namespace of the tests if it is the first. */
  async startNode(options: NodeOptions = {}): Promise<Node> {
    const node = await this.addNode(options);
    await node.plugin.start();
    await node.apiserver.start();
    if (this.plugins.length === 1) await node.apiserver.client.createNamespace(NAMESPACE);
    return node;
  }

  /** Stops the API servers, etcd and then the plugins, which must all end by themselves. */
  async stop(): Promise<void> {
    await this.plane.stop();
    await Promise.all(this.plugins.map((plugin) => plugin.stop()));
  }
}
