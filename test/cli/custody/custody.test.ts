// `custody split`, `test` and `combine` on a real token: what they write, what they report, and that no mistake with a
// share costs a PIN attempt.

import { spawnSync } from "node:child_process";
import { closeSync, openSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { beforeAll, expect, it } from "vitest";

import { runCommand } from "../../support/command.js";
import { MAIN, type CommandResult } from "../../support/plugin-process.js";
import { sharesIn } from "../../support/share-pages.js";
import { makeFolder } from "../../support/token.js";
import { useToken } from "../../support/token-fixture.js";

const fixture = useToken({ faults: [] });

let folder: string;
let sealed: string;
let shares: string[];

const split = (to: string, out: string, pin: string, ...more: string[]): Promise<CommandResult> => {
  const { token, fault } = fixture;
  const key = `pkcs11:token=${token.label};object=kms-kek?module-path=${fault.modulePath}`;
  const numbers = ["--threshold", "2", "--shares", "3"];
  const place = ["--sealed", to, "--out", out, "--state-dir", join(folder, "state"), ...more];
  return runCommand(
    ["custody", "split", "--key", key, "--pin-stdin", ...numbers, ...place, "-o", "json"],
    fault.env,
    `${pin}\n`,
  );
};
const custody = (command: string, input: readonly string[], ...options: string[]): Promise<CommandResult> =>
  runCommand(["custody", command, "--sealed", sealed, ...options], {}, input.join("\n"));
beforeAll(async () => {
  folder = makeFolder("custody");
  sealed = join(folder, "pin.sealed");
  expect(await split(sealed, join(folder, "pages"), fixture.token.pin)).toMatchObject({ code: 0 });
  shares = sharesIn(join(folder, "pages"));
});

it("custody split writes a readable sealed PIN and one private page per custodian", () => {
  expect(statSync(sealed).mode & 0o777).toBe(0o644);
  expect(shares).toHaveLength(3);
  for (const name of readdirSync(join(folder, "pages"))) {
    expect(statSync(join(folder, "pages", name)).mode & 0o777).toBe(0o600);
    expect(readFileSync(join(folder, "pages", name), "utf8")).toContain("<svg");
  }
  expect(readdirSync(folder)).not.toContain("pin.sealed.prepared");
});

it("custody split never replaces a sealed PIN, and seals no PIN that the token refuses", async () => {
  expect(await split(sealed, join(folder, "pages"), fixture.token.pin)).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/exists and may be the only way/) as string,
  });
  const other = join(folder, "other.sealed");
  expect((await split(other, join(folder, "other"), "wrong")).stderr).toMatch(/CKR_PIN_INCORRECT/);
  expect(readdirSync(folder)).not.toContain("other.sealed");
});

it("custody test judges each share and shows no PIN, without a PIN attempt", async () => {
  const before = fixture.fault.calls("C_Login");
  const [a = "", b = ""] = shares;
  const damaged = `${b.slice(0, -1)}${b.endsWith("q") ? "p" : "q"}`;
  const { code, stdout } = await custody("test", [a, damaged, a, b], "--output", "json");
  const report = JSON.parse(stdout) as { shares: { result: string }[]; opens: boolean };
  expect(report.shares.map(({ result }) => result)).toEqual(["ok", "unreadable", "duplicate", "ok"]);
  expect([code, report.opens]).toEqual([1, true]);
  expect((await custody("test", [a])).stdout).toMatch(/1 of 2 shares/);
  const right = await custody("test", [a, b]);
  expect(right).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/open the PIN \(not shown\)/) as string,
  });
  expect(`${stdout}${right.stdout}${right.stderr}`).not.toContain(fixture.token.pin);
  expect(fixture.fault.calls("C_Login")).toBe(before);
});

it("custody test without a share is an error that says how to give one", async () => {
  const nothing = await custody("test", []);
  expect(nothing).toMatchObject({ code: 2, stdout: "" });
  expect(nothing.stderr).toContain("no share was entered; enter one on each line");
});

it("custody combine writes the PIN into a pipe or a new file, and names a wrong share", async () => {
  const [a = "", , c = ""] = shares;
  expect(await custody("combine", [a, a, c])).toMatchObject({
    code: 0,
    stdout: fixture.token.pin,
    stderr: expect.stringMatching(/entry 2: share 1 .*entered already/) as string,
  });
  const out = join(folder, "pin");
  expect((await custody("combine", [c, a], "--out", out)).code).toBe(0);
  expect([readFileSync(out, "utf8"), statSync(out).mode & 0o777]).toEqual([fixture.token.pin, 0o600]);
  expect((await custody("combine", [a])).stderr).toMatch(/not enough correct shares/);
});

it("custody combine refuses a taken file and a redirected output before it reads shares", async () => {
  const taken = join(folder, "taken");
  writeFileSync(taken, "kept");
  const refused = await custody("combine", shares, "--out", taken);
  expect(refused).toMatchObject({
    code: 2,
    stderr: `kms-pkcs11: --out: ${taken} cannot be made (EEXIST); give a new file\n`,
  });
  expect(readFileSync(taken, "utf8")).toBe("kept");
  const output = openSync(join(folder, "redirected"), "wx");
  const { status, stderr } = spawnSync(process.execPath, [MAIN, "custody", "combine", "--sealed", sealed], {
    input: shares.join("\n"),
    stdio: ["pipe", output, "pipe"],
  });
  closeSync(output);
  expect([status, stderr.toString()]).toEqual([
    2,
    expect.stringContaining("standard output is a file; give --out"),
  ]);
  expect(statSync(join(folder, "redirected")).size).toBe(0);
});

it("shares of another sealed PIN are foreign", async () => {
  const own = readFileSync(sealed, "utf8");
  const altered = JSON.parse(own) as Record<string, unknown>;
  writeFileSync(sealed, JSON.stringify({ ...altered, set: "00000000" }));
  const { stdout } = await custody("test", shares.slice(0, 1));
  writeFileSync(sealed, own);
  expect(stdout).toMatch(/foreign/);
});

it("custody split --replace keeps the set, and makes the earlier shares outdated", async () => {
  const out = join(folder, "next");
  // This process has passed a wrong PIN; its record is in the other state directory.
  const options = ["--replace", "--state-dir", join(folder, "state-2")];
  expect(await split(sealed, out, fixture.token.pin, ...options)).toMatchObject({ code: 0 });
  const [next = ""] = sharesIn(out);
  expect((await custody("test", [next])).stdout).toMatch(/epoch 2: 1 of 2 shares/);
  expect((await custody("test", shares.slice(0, 1))).stdout).toMatch(/outdated/);
});
