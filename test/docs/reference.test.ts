// The references of commands and metrics match the code; `npx vitest run test/docs -u` updates them.

import { expect, it } from "vitest";

import { commandLine } from "./command-line.js";
import { OUTPUT_SCHEMAS } from "../../src/cli/output-schema/by-command.js";
import { metricReference } from "./metric-reference.js";
import { schemaFile } from "./output-reference.js";
import { settingReference } from "./setting-reference.js";

it("every command's help ends with an example", async () => {
  const commands = await commandLine();
  expect(commands.length).toBeGreaterThan(10);
  for (const { name, help } of commands) expect(help, name).toMatch(/\nExamples?:\n {2}kms-pkcs11 /);
});

/** Returns the line that links the schemas of a command's JSON output. */
function schemaLinks(command: string): string {
  const links = Object.keys(OUTPUT_SCHEMAS)
    .filter((name) => name.replace(/ --.*/, "") === (command === "" ? "error" : command))
    .map((name) => `[${schemaFile(name)}](output/${schemaFile(name)})`);
  return links.length === 0 ? "" : `\nJSON: ${links.join(", ")}\n`;
}

it("deploy/reference/commands.md equals the commands' help", async () => {
  const sections = (await commandLine()).map(({ name, help }) => {
    const title = name === "" ? "kms-pkcs11" : name;
    return `## ${title}\n\n\`\`\`text\n${help}\n\`\`\`\n${schemaLinks(name)}`;
  });
  const intro =
    "What `--help` says of each, and the JSON Schema of what it prints with `--output json`. Within a major version no\n" +
    "field is removed, renamed or given another type; new ones may be added.";
  const text = `# Commands\n\n${intro}\n\n${sections.join("\n")}`;
  await expect(text).toMatchFileSnapshot("../../deploy/reference/commands.md");
});

it("deploy/reference/metrics.md equals what /metrics returns", async () => {
  const rows = (await metricReference()).map(({ name, type, help }) => `| \`${name}\` | ${type} | ${help} |`);
  const text = [
    "# Metrics",
    "",
    "Every metric on `/metrics` (OpenMetrics). `*_seconds` histograms have the series `_bucket`, `_sum` and `_count`.",
    "",
    "<!-- prettier-ignore -->",
    "| metric | type | tells |",
    "| --- | --- | --- |",
    ...rows,
    "",
  ].join("\n");
  await expect(text).toMatchFileSnapshot("../../deploy/reference/metrics.md");
});

it("deploy/reference/settings.md equals the configuration schema", async () => {
  await expect(settingReference()).toMatchFileSnapshot("../../deploy/reference/settings.md");
});
