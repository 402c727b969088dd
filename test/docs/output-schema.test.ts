// The schemas of commands' JSON output: published, complete, and stable within a major version. That outputs match them is
// checked wherever a test runs a command (test/support/output-schema.ts).

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { describe, expect, it } from "vitest";

import { OUTPUT_SCHEMAS, WITHOUT_SCHEMA } from "../../src/cli/output-schema/by-command.js";
import { commandLine } from "./command-line.js";
import { fieldsOf, outputSchemas, schemaFile } from "./output-reference.js";

const FOLDER = fileURLToPath(new URL("../../deploy/reference/output/", import.meta.url));
const FROZEN = fileURLToPath(new URL("../vectors/output-fields.json", import.meta.url));

type Fields = Readonly<Record<string, string>>;

/** Returns what a program that reads the frozen fields would miss. */
function broken(frozen: Fields, current: Fields): string[] {
  return Object.entries(frozen).flatMap(([path, types]) => {
    const now = current[path];
    if (now === undefined) return [`${path} is gone`];
    const added = now.split("|").filter((type) => !types.split("|").includes(type));
    return added.length === 0 ? [] : [`${path} was ${types} and is ${now}`];
  });
}

it("every command has a schema of its JSON output, or a reason why not", async () => {
  const names = (await commandLine()).map(({ name }) => name).filter((name) => name !== "");
  const described = [...Object.keys(OUTPUT_SCHEMAS), ...Object.keys(WITHOUT_SCHEMA)];
  expect(described.filter((name) => name !== "error" && !name.includes("--")).sort()).toEqual(names.sort());
});

it("deploy/reference/output/ has the schema of every command, and no other file", async () => {
  const schemas = outputSchemas();
  for (const [name, schema] of schemas) {
    await expect(`${JSON.stringify(schema, null, 2)}\n`).toMatchFileSnapshot(`${FOLDER}${schemaFile(name)}`);
  }
  const files = [...schemas.keys()].map(schemaFile);
  expect(readdirSync(FOLDER).filter((file) => !files.includes(file))).toEqual([]);
});

describe("within a major version", () => {
  const frozen = (existsSync(FROZEN) ? JSON.parse(readFileSync(FROZEN, "utf8")) : {}) as Record<
    string,
    Fields
  >;
  const current = Object.fromEntries([...outputSchemas()].map(([name, schema]) => [name, fieldsOf(schema)]));

  it("no published field is removed, renamed or given another type", () => {
    const faults = Object.entries(frozen).flatMap(([name, fields]) =>
      broken(fields, current[name] ?? {}).map((fault) => `${name}: ${fault}`),
    );
    expect(faults).toEqual([]);
  });

  it("new fields are added to the frozen list", async () => {
    const names = [...new Set([...Object.keys(frozen), ...Object.keys(current)])].sort();
    const merged = Object.fromEntries(names.map((name) => [name, { ...current[name], ...frozen[name] }]));
    await expect(`${JSON.stringify(merged, null, 1)}\n`).toMatchFileSnapshot(FROZEN);
  });

  it.each([
    { change: "a removed field", now: { "keys[].label": "string" }, fault: "keys[].keyId is gone" },
    {
      change: "another type",
      now: { "keys[].label": "string", "keys[].keyId": "integer" },
      fault: "keys[].keyId was string and is integer",
    },
    {
      change: "a field that may be null",
      now: { "keys[].label": "string", "keys[].keyId": "null|string" },
      fault: "keys[].keyId was string and is null|string",
    },
  ])("$change is found", ({ now, fault }) => {
    expect(broken({ "keys[].label": "string", "keys[].keyId": "string" }, now)).toEqual([fault]);
  });
});
