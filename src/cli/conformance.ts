// `kms-pkcs11 conformance`: tests any KMS v2 plugin over its socket for the behaviour that kube-apiserver relies on.
import type { Command } from "commander";
import { checkContract, CONTRACT, type Finding } from "../conformance/contract.js";
import { pluginAt } from "./conformance-connection.js";
import { EXIT_NO } from "./exit-code.js";
import { answeredStatus, KmsClient } from "../kms-client/kms-client.js";
import { formatJson, type Terminal } from "./output.js";
import { addPluginSocketOptions, pluginSocket, type PluginSocketOptions } from "./plugin-socket.js";
import { formatTable } from "./table.js";
import { startProgress } from "./progress.js";
import type { ConformanceOutput } from "./output-schema/plugin.js";

/** Adds `conformance`. */
export function addConformanceCommand(program: Command, terminal: Terminal): void {
  addPluginSocketOptions(program.command("conformance"))
    .addHelpText("after", "\nExample:\n  kms-pkcs11 conformance --socket /run/kmsplugin/socket.sock")
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<PluginSocketOptions>();
      const { output } = options;
      const socket = await pluginSocket(options);
      await requireAnswer(socket);
      const progress = startProgress(terminal, "rules", CONTRACT.length);
      const findings = await checkContract(pluginAt(socket), (done) => {
        progress.update(done);
      }).finally(() => {
        progress.end();
      });
      const rows = findings.map((one) => ({ verdict: verdictOf(one), ...one }));
      if (output === "json") terminal.out(formatJson({ findings: rows } satisfies ConformanceOutput));
      else {
        terminal.out(
          formatTable(
            ["", "LEVEL", "RULE", "SEEN"],
            rows.map(({ verdict, level, rule, seen }) => [verdict, level, rule, seen]),
          ),
        );
      }
      if (rows.some(({ verdict }) => verdict === "fail")) process.exitCode = EXIT_NO;
    });
}

function verdictOf({ holds, level }: Finding): "ok" | "fail" | "warn" | "no" {
  if (holds) return "ok";
  return ({ must: "fail", should: "warn", may: "no" } as const)[level];
}

/** Checks that a plugin answers on the socket, even with an error. @throws KmsError PEER_UNREACHABLE */
async function requireAnswer(socket: string): Promise<void> {
  const client = new KmsClient(socket);
  try {
    await client.status();
  } catch (error) {
    if (answeredStatus(error) === undefined) throw error;
  } finally {
    client.close();
  }
}
