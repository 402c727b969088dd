// The JSON Schema of the configuration file: the published file equals it, and it accepts what the plugin accepts.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { configurationJsonSchema } from "../../src/config/json-schema.js";
import { parseDuration } from "../../src/config/duration.js";
import { OPTIONS_IN_ORDER } from "../../src/config/setting-rows.js";

const DEPLOY = fileURLToPath(new URL("../../deploy/", import.meta.url));

interface Schema {
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly description?: string;
  readonly default?: unknown;
  readonly pattern?: string;
  readonly additionalProperties?: boolean;
}

const schema = configurationJsonSchema() as Schema;
const propertyAt = (path: string): Schema | undefined =>
  path.split(".").reduce<Schema | undefined>((at, name) => {
    const found = at?.properties?.[name.replace("[]", "")];
    return name.endsWith("[]") ? found?.items : found;
  }, schema);

it("deploy/reference/config.schema.json equals the schema", async () => {
  const text = `${JSON.stringify(schema, null, 2)}\n`;
  await expect(text).toMatchFileSnapshot("../../deploy/reference/config.schema.json");
});

it("the JSON schema describes every setting, and allows no other", () => {
  for (const { path, meta } of OPTIONS_IN_ORDER) {
    expect(propertyAt(path)?.description, path).toContain(meta.description.replaceAll("`", "'"));
  }
  expect(schema.additionalProperties).toBe(false);
  expect(propertyAt("hsm.requestTimeout")?.default).toBe("2s");
});

it.each(["", "5", "1h30m", "90s", "500ms", "1m500ms", "2m1h", "1.5s", "1d", "1ms2s", "0s"])(
  "the JSON schema accepts the duration %j if the plugin does",
  (text) => {
    const { pattern = "" } = propertyAt("cache.ttl") ?? {};
    expect(new RegExp(pattern, "u").test(text)).toBe(parseDuration(text) !== undefined);
  },
);

it("deploy/config.yaml names the schema for editors", () => {
  const [first] = readFileSync(join(DEPLOY, "config.yaml"), "utf8").split("\n");
  expect(first).toBe("# yaml-language-server: $schema=reference/config.schema.json");
  expect(readdirSync(join(DEPLOY, "reference"))).toContain("config.schema.json");
});
