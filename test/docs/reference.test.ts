// The references of commands and metrics match the code; `npx vitest run test/docs -u` updates them.

import { expect, it } from "vitest";

import { commandLine } from "./command-line.js";
import { metricReference } from "./metric-reference.js";
import { settingReference } from "./setting-reference.js";

it("every command's help ends with an example", async () => {
  const commands = await commandLine();
  expect(commands.length).toBeGreaterThan(10);
  for (const { name, help } of commands) expect(help, name).toMatch(/\nExamples?:\n {2}kms-pkcs11 /);
});

it("deploy/reference/commands.md equals the commands' help", async () => {
  const sections = (await commandLine()).map(
    ({ name, help }) => `## ${name === "" ? "kms-pkcs11" : name}\n\n\`\`\`text\n${help}\n\`\`\`\n`,
  );
  const text = `# Commands\n\nWhat \`--help\` says of each.\n\n${sections.join("\n")}`;
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
