// Which commands have --cluster, with which an operator names the cluster that they concern.

import type { Command } from "commander";
import { expect, it } from "vitest";

import type { Terminal } from "../../src/cli/output.js";
import { createProgram } from "../../src/cli/program.js";

const SILENT: Terminal = { out: () => undefined, err: () => undefined, isInteractive: false };
/** These concern all clusters. */
const OF_ALL = ["serve", "config validate"];

function withConfiguration(command: Command, words: readonly string[]): { name: string; command: Command }[] {
  const found = command.commands.flatMap((each) => withConfiguration(each, [...words, each.name()]));
  const reads = command.options.some(({ long }) => long === "--config");
  return reads ? [...found, { name: words.join(" "), command }] : found;
}

it("every command that reads the configuration of one cluster has --cluster", async () => {
  const commands = withConfiguration(await createProgram(SILENT, []), []);
  expect(commands.length).toBeGreaterThan(20);
  const without = commands.filter(({ command }) => !command.options.some(({ long }) => long === "--cluster"));
  expect(without.map(({ name }) => name).sort()).toEqual(OF_ALL.toSorted());
});
