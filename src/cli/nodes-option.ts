// The option --nodes: the plugins that a command asks or compares. Without it, those that the configuration names.
import type { Command } from "commander";
import type { Settings } from "../config/settings.js";
import { withholdFromSsh } from "../admin/ssh-tunnel.js";
import { checkClusterName } from "../config/cluster-name.js";
import { ofCluster, parseNodeAddresses } from "../config/node-address.js";
import { pinSourcesOf } from "../config/tokens.js";
import { KmsError } from "../errors.js";

/** The option's flags; its description says what the command asks the plugins. */
export const NODES_FLAGS = "--nodes <url,...>";

export interface NodesOptions {
  readonly nodes?: string;
  /** Name of the cluster whose keys the plugins are asked for, if no configuration is read. */
  readonly cluster?: string;
}

/** Adds the option to a command that concerns every node. */
export function addEveryNodeOption(command: Command): Command {
  return command.option(
    NODES_FLAGS,
    "every node's plugin, such as http://127.0.0.1:8090 or ssh://root@cp-2 (default: the setting nodes)",
  );
}

/**
 * Returns the plugins that --nodes names; undefined if it is absent.
 * @param settings undefined if no configuration is read: an ssh:// address that names no HTTP address then stands for
 * the usual one
 * @throws KmsError CONFIG_INVALID
 */
export function namedNodes({ nodes, cluster }: NodesOptions, settings?: Settings): URL[] | undefined {
  if (nodes === undefined) return undefined;
  const addresses = nodes.split(",").map((one) => one.trim());
  const urls = naming("--nodes", () => parseNodeAddresses(addresses, settings?.http));
  const name = settings?.cluster?.name ?? cluster;
  if (name === undefined) return urls;
  // The name becomes part of a command on the nodes.
  naming("--cluster", () => checkClusterName(name));
  return urls.map((url) => ofCluster(url, name));
}

/** Runs a check of an option's value, whose errors then begin with the option. */
function naming<T>(option: string, check: () => T): T {
  try {
    return check();
  } catch (error) {
    const { code, message } = KmsError.from(error);
    throw new KmsError(code, `${option}: ${message}`, error);
  }
}

/** Returns the plugins that --nodes names, or else those of the configuration. @throws KmsError CONFIG_INVALID */
export function nodesOf(options: NodesOptions, settings: Settings): readonly URL[] {
  withholdFromSsh(settings.tokens.flatMap(pinSourcesOf));
  return namedNodes(options, settings) ?? settings.nodes;
}
