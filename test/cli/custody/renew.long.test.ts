// `custody renew` on a real token: the PIN that it sets, what it asks before, and what tokens refuse. `custody/renewal.test.ts`
// kills it where it waits.

import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterEach, beforeAll, beforeEach, expect, it } from "vitest";

import { runCommand } from "../../support/command.js";
import { sharesIn } from "../../support/share-pages.js";
import type { CommandResult } from "../../support/plugin-process.js";
import { makeFolder } from "../../support/token.js";
import { useToken } from "../../support/token-fixture.js";

const fixture = useToken({ faults: [] });

let folder: string;
let sealed: string;
let epoch: number;

const key = (): string =>
  `pkcs11:token=${fixture.token.label};object=kms-kek?module-path=${fixture.fault.modulePath}`;
const pagesOf = (of: number): string => join(folder, `pages-${of}`);
const inForce = (): string[] => sharesIn(pagesOf(epoch));
const matching = (pattern: RegExp): string => expect.stringMatching(pattern) as string;

/** @param shares as custodians enter them */
const renew = (shares: readonly string[], ...options: string[]): Promise<CommandResult> => {
  const place = ["--sealed", sealed, "--out", pagesOf(epoch + 1), "--state-dir", join(folder, "state")];
  return runCommand(
    ["custody", "renew", "--key", key(), ...place, ...options],
    fixture.fault.env,
    shares.join("\n"),
  );
};
const combined = async (): Promise<string> =>
  (await runCommand(["custody", "combine", "--sealed", sealed], {}, inForce().slice(0, 2).join("\n"))).stdout;

beforeAll(async () => {
  folder = makeFolder("custody-renew");
  sealed = join(folder, "pin.sealed");
  epoch = 1;
  const place = ["--sealed", sealed, "--out", pagesOf(1), "--state-dir", join(folder, "state")];
  const numbers = ["--threshold", "2", "--shares", "3"];
  const args = ["custody", "split", "--key", key(), "--pin-stdin", ...numbers, ...place];
  expect(await runCommand(args, fixture.fault.env, `${fixture.token.pin}\n`)).toMatchObject({ code: 0 });
});

let attempts: number;
beforeEach(() => {
  attempts = fixture.fault.calls("C_Login");
});
afterEach(() => {
  expect(existsSync(`${sealed}.next`)).toBe(false);
});

it("custody renew sets a random PIN with new shares; the earlier shares open nothing", async () => {
  const earlier = inForce();
  const { code, stdout, stderr } = await renew(["kmsshare1nonsense", ...earlier.slice(1)]);
  expect({ code, stdout, stderr }).toMatchObject({
    code: 0,
    stdout: matching(/^epoch 2 is in force: any 2 of 3 shares /),
    stderr: matching(/entry 1: this share cannot be read.*\nnext: copy the sealed PIN/s),
  });
  epoch = 2;
  const pin = await combined();
  expect(pin).toMatch(/^[0-9A-Za-z]{32}$/);
  expect(`${stdout}${stderr}`).not.toContain(pin);
  const test = await runCommand(["custody", "test", "--sealed", sealed], {}, earlier.join("\n"));
  expect(test).toMatchObject({ code: 1, stdout: matching(/outdated/) });
});

it("custody renew chooses threshold, number of shares, length and digits", async () => {
  fixture.fault.set("pin-length 4 12");
  const numbers = ["--threshold", "3", "--shares", "4", "--digits", "--output", "json"];
  const { stdout } = await renew(inForce(), ...numbers);
  expect(JSON.parse(stdout)).toMatchObject({ sealed, epoch: 3, threshold: 3, shares: 4 });
  epoch = 3;
  const { stdout: pin } = await runCommand(
    ["custody", "combine", "--sealed", sealed],
    {},
    inForce().slice(1).join("\n"),
  );
  expect(pin).toMatch(/^\d{12}$/);
});

it.each([
  ["reads PINs from its keypad", ["pin-keypad"], /from its own keypad only/],
  ["allows no PIN that is long enough", ["pin-length 4 5"], /accepts PINs of 4 to 5 bytes/],
])("custody renew spends nothing on a token that %s", async (_what, rules, message) => {
  fixture.fault.set(...rules);
  expect(await renew(inForce())).toMatchObject({ code: 1, stderr: matching(message) });
  expect(fixture.fault.calls("C_Login")).toBe(attempts);
  expect(existsSync(pagesOf(epoch + 1)) ? readdirSync(pagesOf(epoch + 1)) : []).toEqual([]);
});

it("custody renew asks no token before enough correct shares are entered", async () => {
  expect(await renew(inForce().slice(0, 1))).toMatchObject({ stderr: matching(/not enough correct shares/) });
  expect(fixture.fault.calls("C_Login")).toBe(attempts);
});

it("custody renew leaves the shares valid if the token refuses C_SetPIN", async () => {
  fixture.fault.set("C_SetPIN rv 0x54");
  const { code, stderr } = await renew(inForce());
  expect(code).not.toBe(0);
  expect(stderr).toMatch(
    /was not changed: .*CKR_FUNCTION_NOT_SUPPORTED.*vendor's tool.*destroy the pages of epoch 4/s,
  );
  expect(JSON.parse(readFileSync(sealed, "utf8"))).toMatchObject({ epoch: 3 });
  expect(fixture.fault.calls("C_Login") - attempts).toBe(2);
});

it("custody renew finds out whether a token host that died in C_SetPIN changed the PIN", async () => {
  fixture.fault.set("C_SetPIN abort");
  expect(await renew(inForce(), "--out", pagesOf(5))).toMatchObject({
    stderr: matching(/did not carry it out; destroy the pages of epoch 5/),
  });
  fixture.fault.set("C_SetPIN abort after");
  expect(await renew(inForce(), "--out", pagesOf(6))).toMatchObject({
    code: 0,
    stdout: matching(/^epoch 6/),
  });
  epoch = 6;
});

it("custody split --replace is refused after an interrupted renewal", async () => {
  writeFileSync(`${sealed}.next`, readFileSync(sealed));
  const numbers = ["--threshold", "2", "--shares", "2", "--replace", "--out", join(folder, "other")];
  const args = ["custody", "split", "--key", key(), "--sealed", sealed, "--pin-stdin", ...numbers];
  expect(await runCommand(args, fixture.fault.env, "any")).toMatchObject({
    code: 2,
    stderr: matching(/interrupted renewal.*custody renew first/s),
  });
  expect(fixture.fault.calls("C_Login")).toBe(attempts);
  rmSync(`${sealed}.next`);
});
