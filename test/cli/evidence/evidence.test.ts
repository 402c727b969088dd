// `evidence collect` and `evidence verify` on a real token: what the folder holds, that no secret is in it, and what a failure
// leaves behind.

import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { beforeAll, expect, it } from "vitest";

import { runCommand } from "../../support/command.js";
import { withAge } from "../../../src/cli/keys/list.js";
import { evidenceFacts } from "../../support/evidence-facts.js";
import { kekRecord } from "../../support/kek-record.js";
import { makeFolder } from "../../support/token.js";
import { useToken } from "../../support/token-fixture.js";

const DAY_MS = 86_400_000;
const schedule = { generations: [], refused: [] };
const record = kekRecord("kms-kek-1", "k");
const fixture = useToken({ faults: [] });

let folder: string;
let config: string;

const run = (...args: string[]) => runCommand(args, fixture.fault.env);
const collect = (to: string, ...more: string[]) =>
  run("evidence", "collect", "--config", config, "--to", join(folder, to), ...more);

beforeAll(async () => {
  folder = makeFolder("evidence");
  config = join(folder, "config.yaml");
  const { token, fault } = fixture;
  const pin = join(folder, "pin");
  writeFileSync(pin, token.pin, { mode: 0o600 });
  const uri = `pkcs11:token=${token.label};object=kms-kek?module-path=${fault.modulePath}&pin-source=file:${pin}`;
  const document = {
    apiVersion: "kms-pkcs11.dev/v1",
    kind: "PluginConfiguration",
    keys: { uri, cryptoperiod: "90d" },
    socket: { path: join(folder, "kms.sock") },
    stateDir: join(folder, "state"),
    audit: { file: join(folder, "audit.log") },
  };
  writeFileSync(config, JSON.stringify(document), { mode: 0o600 });
  expect(await run("keys", "create", "--config", config)).toMatchObject({ code: 0 });
});

it("evidence collect writes a whole folder without a secret, which evidence verify accepts", async () => {
  const { usage, verification, drill } = evidenceFacts();
  const [usageFile, verified] = [join(folder, "usage.json"), join(folder, "verified.json")];
  writeFileSync(usageFile, JSON.stringify(usage));
  const drilled = join(folder, "drilled.json");
  writeFileSync(drilled, JSON.stringify(drill));
  const [resource] = verification?.resources ?? [];
  const whole = { objects: 1, resources: [{ ...resource, plaintext: 0, otherProvider: 0 }], failures: [] };
  writeFileSync(verified, JSON.stringify(whole));
  const reports = ["--usage-report", usageFile, "--verification", verified, "--drill", drilled];
  const collected = await collect("of-november", ...reports);
  expect(collected).toMatchObject({ code: 0 });
  const to = join(folder, "of-november");
  expect(statSync(to).mode & 0o777).toBe(0o700);
  expect(readdirSync(to).sort()).toEqual([
    "audit-events.jsonl",
    "audit-requests.json",
    "audit-verification.json",
    "check.json",
    "drill.json",
    "index.html",
    "keys.json",
    "manifest.json",
    "sbom.cdx.json",
    "usage-report.json",
    "verification.json",
    "versions.json",
  ]);
  for (const name of readdirSync(to)) {
    expect(readFileSync(join(to, name), "utf8")).not.toContain(fixture.token.pin);
  }
  const keys = JSON.parse(readFileSync(join(to, "keys.json"), "utf8")) as { keys: { keyId: string }[] };
  const page = readFileSync(join(to, "index.html"), "utf8");
  expect(page).toContain(keys.keys[0]?.keyId);
  expect(page).toContain("keys create");
  expect(readFileSync(join(to, "sbom.cdx.json"), "utf8")).toContain("pkg:npm/commander@");
  const digest = /sha256:[0-9a-f]{64}/.exec(collected.stdout)?.[0] ?? "";
  const verify = (...more: string[]) => run("evidence", "verify", to, ...more);
  expect(await verify("--manifest", digest)).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("complete and unchanged") as string,
  });
  writeFileSync(join(to, "keys.json"), "{}");
  expect(await verify("-o", "json")).toMatchObject({ code: 1 });
  expect(await verify("--manifest", "x")).toMatchObject({ code: 2 });
});

it("evidence collect writes nothing if a report cannot be used or the folder exists", async () => {
  writeFileSync(join(folder, "bad.json"), "{}");
  for (const [option, what] of [
    ["--verification", "is not a verification"],
    ["--drill", "is not the report of a drill"],
  ] as const) {
    expect(await collect("bad", option, join(folder, "bad.json"))).toMatchObject({
      code: 2,
      stderr: expect.stringContaining(what) as string,
    });
  }
  expect(existsSync(join(folder, "bad"))).toBe(false);
  expect(await collect("config.yaml")).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("evidence never replaces anything") as string,
  });
});

it("a wrong PIN costs evidence collect one attempt, even without a state directory", async () => {
  const wrong = join(folder, "wrong-pin");
  writeFileSync(wrong, "000000", { mode: 0o600 });
  const { stateDir, audit, ...document } = JSON.parse(readFileSync(config, "utf8")) as Record<string, object>;
  expect([stateDir, audit]).not.toContain(undefined);
  const withWrong = join(folder, "wrong.yaml");
  const text = JSON.stringify(document).replace(join(folder, "pin"), wrong);
  writeFileSync(withWrong, text, { mode: 0o600 });
  const before = fixture.fault.calls("C_Login");
  const to = join(folder, "without-keys");
  expect(await run("evidence", "collect", "--config", withWrong, "--to", to)).toMatchObject({ code: 0 });
  expect(fixture.fault.calls("C_Login") - before).toBe(1);
  const { problem } = JSON.parse(readFileSync(join(to, "keys.json"), "utf8")) as { problem: string };
  expect(problem).toContain("CKR_PIN_INCORRECT");
  expect(problem).not.toContain("holds no KEK");
});

it("keys list adds the age of the active KEK to its findings, and of no other", () => {
  const key = (state: "active" | "retired") => ({ state, activation: 0, findings: [], holders: [], record });
  const view = {
    keys: [key("active"), key("retired")],
    schedule,
    active: undefined,
    problem: undefined,
    differences: [],
  };
  const [active, retired] = withAge(view, { cryptoperiodMs: 90 * DAY_MS }, 100 * DAY_MS).keys;
  expect(active?.findings).toEqual(["its cryptoperiod (keys.cryptoperiod) ended 10 days ago; rotate it"]);
  expect(retired?.findings).toEqual([]);
});
