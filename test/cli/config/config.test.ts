// The commands about the configuration file, run in this process.
import { writeFileSync } from "node:fs";
import { afterEach, expect, it } from "vitest";
import { run } from "../../../src/cli/program.js";
import { configurationJsonSchema } from "../../../src/config/json-schema.js";
import { MINIMAL, URI, useConfigurationFile } from "../../config/configuration-file.js";
import { checkJsonOutput } from "../../support/output-schema.js";

const file = useConfigurationFile();
const SERVES = `${MINIMAL}socket: { path: /run/kms.sock }\nstateDir: /var/lib/kms\n`;

afterEach(() => {
  process.exitCode = 0;
  delete process.env["KMS_PKCS11_CONFIG"];
});

interface Result {
  readonly code: unknown;
  readonly out: string;
  readonly err: string;
}

const config = async (...args: readonly string[]): Promise<Result> => {
  const [out, err]: [string[], string[]] = [[], []];
  process.exitCode = 0;
  await run(["node", "kms-pkcs11", "config", ...args], {
    out: (text) => out.push(text),
    err: (text) => err.push(text),
    isInteractive: false,
  });
  const result = { code: process.exitCode, out: out.join("\n"), err: err.join("\n") };
  checkJsonOutput(["config", ...args], { code: result.code, stdout: result.out, stderr: result.err });
  return result;
};
const write = (yaml: string): void => {
  writeFileSync(file.path, yaml, { mode: 0o600 });
};

it("config validate accepts what serve accepts, and shows warnings", async () => {
  write(SERVES);
  expect(await config("validate", "-c", file.path)).toMatchObject({ code: 0, out: `ok  ${file.path}` });
  const flags = ["--key", URI, "--socket", "/run/kms.sock", "--state-dir", "/var/lib/kms"];
  expect(await config("validate", ...flags)).toMatchObject({ code: 0, out: "ok  the flags" });
});

it("config validate exits with 2 and reports each problem with its position, also as JSON", async () => {
  write(`${SERVES}hsm: { hosts: 9 }\n`);
  const problem = `${file.path}:7:8: hsm.hosts: is 9; give a whole number from 1 to 4`;
  expect(await config("validate", "-c", file.path)).toEqual({ code: 2, out: "", err: problem });
  const { code, out, err } = await config("validate", "-c", file.path, "-o", "json");
  expect([code, JSON.parse(out)]).toEqual([
    2,
    { file: file.path, valid: false, problems: [problem], warnings: [] },
  ]);
  expect(JSON.parse(err)).toMatchObject({ error: { code: "CONFIG_INVALID", message: problem } });
});

it("config print shows each value with its source", async () => {
  write(SERVES);
  process.env["KMS_PKCS11_CONFIG"] = file.path;
  const { code, out } = await config("print", "--log-level", "debug");
  expect(code).toBe(0);
  expect(out).toContain(`${file.path} ($KMS_PKCS11_CONFIG)`);
  expect(out).toMatch(/^socket\.path +\/run\/kms\.sock +\S+config\.yaml:5$/m);
  expect(out).toMatch(/^log\.level +debug +--log-level$/m);
  expect(out).toMatch(/^hsm\.hosts +2 +default$/m);
  expect(out).toMatch(/^pin +file \/run\/pin +\S+config\.yaml:4$/m);
});

it("config print -o json has plain values, and sources with line and column", async () => {
  write(SERVES);
  const { out } = await config("print", "-c", file.path, "-o", "json");
  const printed = JSON.parse(out) as { file: object; settings: { setting: string }[] };
  expect(printed.file).toEqual({ path: file.path, source: "--config" });
  expect(printed.settings.find(({ setting }) => setting === "stateDir")).toEqual({
    setting: "stateDir",
    value: "/var/lib/kms",
    source: { kind: "file", file: file.path, line: 6, column: 1 },
  });
});

it("config schema prints the JSON Schema", async () => {
  const { code, out } = await config("schema");
  expect([code, JSON.parse(out)]).toEqual([0, JSON.parse(JSON.stringify(configurationJsonSchema()))]);
});
