// `kms-pkcs11 console`: serves one page about all nodes' plugins to the operator's browser.
import { once } from "node:events";
import type { Command } from "commander";
import { readFleet } from "../../admin/fleet.js";
import { untilInterrupted } from "../../admin/interrupts.js";
import { KmsError } from "../../errors.js";
import { fleetPage } from "../../page/fleet-page.js";
import { VERSION } from "../../version.js";
import { namedNodes, nodesOf, NODES_FLAGS, type NodesOptions } from "../nodes-option.js";
import { formatJson, type Terminal } from "../output.js";
import { addClusterOption, configHelp, settingsFrom, type SettingsOptions } from "../settings-options.js";
import { startConsole } from "./server.js";
import type { ConsoleOutput } from "../output-schema/plugin.js";

interface ConsoleOptions extends SettingsOptions, NodesOptions {
  readonly port: string;
}

/** Adds `console`. */
export function addConsoleCommand(program: Command, terminal: Terminal): void {
  addClusterOption(program.command("console"))
    .option(
      NODES_FLAGS,
      "the nodes' plugins, such as http://127.0.0.1:8090 or ssh://root@cp-2 (default: the setting nodes)",
    )
    .option("-c, --config <file>", configHelp("--nodes"))
    .option("--port <number>", "loopback port of the page; 0 lets the system choose", "0")
    .addHelpText(
      "after",
      `
Serves a read-only page on 127.0.0.1 until Ctrl-C: each node's state, the KEKs of all nodes on a time line, and what the nodes
disagree about, such as a KEK that one of them lacks. The page asks the nodes while it is open. The printed address works once:
the browser that opens it first keeps access.

Example:
  kms-pkcs11 console --nodes http://127.0.0.1:18090,http://127.0.0.1:28090,http://127.0.0.1:38090`,
    )
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<ConsoleOptions>();
      const { port, output } = options;
      const urls = namedNodes(options) ?? configuredNodes(options);
      await untilInterrupted(undefined, async (signal) => {
        const running = await startConsole(portOf(port), async () =>
          fleetPage({ ...(await readFleet(urls)), now: Date.now() }, VERSION),
        );
        terminal.out(
          output === "json"
            ? formatJson({ url: running.url } satisfies ConsoleOutput)
            : `Open in a browser on this machine (works once): ${running.url}\nCtrl-C stops the console.`,
        );
        if (!signal.aborted) await once(signal, "abort");
        await running.stop();
      });
    });
}

/** @throws KmsError CONFIG_INVALID */
function configuredNodes(options: ConsoleOptions): readonly URL[] {
  const nodes = nodesOf(options, settingsFrom(options, false));
  if (nodes.length > 0) return nodes;
  throw new KmsError("CONFIG_INVALID", "the configuration lists no nodes; give --nodes, or set nodes in it");
}

/** @throws KmsError CONFIG_INVALID */
function portOf(text: string): number {
  if (/^\d{1,5}$/u.test(text) && Number(text) <= 65_535) return Number(text);
  throw new KmsError("CONFIG_INVALID", "--port: give a number from 0 to 65535");
}
