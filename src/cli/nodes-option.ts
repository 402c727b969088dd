// The option --nodes: the plugins that a command asks or compares. Without it, those that the configuration names.
import type { Settings } from "../config/settings.js";
import { parseNodeAddresses } from "../config/node-address.js";
import { KmsError } from "../errors.js";

/** The option's flags; its description says what the command asks the plugins. */
export const NODES_FLAGS = "--nodes <url,...>";

export interface NodesOptions {
  readonly nodes?: string;
}

/** Returns the plugins that --nodes names; undefined if it is absent. @throws KmsError CONFIG_INVALID */
export function namedNodes({ nodes }: NodesOptions): URL[] | undefined {
  if (nodes === undefined) return undefined;
  try {
    return parseNodeAddresses(nodes.split(",").map((one) => one.trim()));
  } catch (error) {
    const { code, message } = KmsError.from(error);
    throw new KmsError(code, `--nodes: ${message}`, error);
  }
}

/** Returns the plugins that --nodes names, or else those of the configuration. @throws KmsError CONFIG_INVALID */
export function nodesOf(options: NodesOptions, settings: Settings): readonly URL[] {
  return namedNodes(options) ?? settings.nodes;
}
