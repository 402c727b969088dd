// What the commands for approvals refuse before anybody signs in vain, and what their errors name.

import { execFileSync } from "node:child_process";
import { lstatSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";

import { beforeAll, expect, it, vi } from "vitest";

import { parseApproval } from "../../../src/approvals/proposal.js";
import { readForChange, replaceDocument } from "../../../src/approvals/write-document.js";
import {
  approvals,
  file,
  folder,
  KEK,
  makePolicy,
  POLICY,
  POLICY_OF,
  propose,
  sign,
} from "../../support/approvals-stage.js";

beforeAll(makePolicy);

it("no activation is proposed or signed that would expire before its instant", async () => {
  const instant = new Date(Date.now() + 48 * 3_600_000).toISOString().replace(/[-:]|\.\d+/g, "");
  const late = await propose("late.json", "activate", `kms-kek@${instant}`, "--kek", KEK, "--valid", "24h");
  expect(late).toMatchObject({ code: 1, stderr: expect.stringContaining("longer --valid") as string });
  expect(readdirSync(folder)).not.toContain("late.json");
  await propose("late.json", "activate", `kms-kek@${instant}`, "--kek", KEK, "--valid", "72h");
  const document = parseApproval(readFileSync(file("late.json"), "utf8"));
  document.proposal.expires = document.proposal.created.replace(/\d\d:\d\dZ$/, "59:59Z");
  writeFileSync(file("late.json"), JSON.stringify(document));
  expect((await sign("late.json", "alice")).stderr).toContain("before the KEK's activation");
});

it("the reason of a proposal cannot place its end like another row", async () => {
  const reason = `rotation${" ".repeat(60)}KEK          0194\u3164`;
  await propose("s.json", "destroy", "kms-kek", "--kek", KEK, "--reason", reason);
  const shown = await approvals("show", file("s.json"), "--policy", POLICY);
  expect(shown.stdout).toMatch(/^reason +rotation KEK 0194\\u3164$/m);
});

it("approvals show does not call an expired approval of a destruction approved", async () => {
  await propose("e.json", "destroy", "kms-kek", "--kek", KEK);
  for (const name of ["alice", "bob"]) await sign("e.json", name);
  const { expires } = parseApproval(readFileSync(file("e.json"), "utf8")).proposal;
  const clock = vi.spyOn(Date, "now").mockReturnValue(Date.parse(expires));
  const shown = await approvals("show", file("e.json"), "--policy", POLICY).finally(() => {
    clock.mockRestore();
  });
  expect(shown.code).toBe(1);
  expect(shown.stdout).toMatch(/^verdict +expired$/m);
});

it("a signature that somebody else adds meanwhile is not lost", async () => {
  await propose("m.json", "destroy", "kms-kek", "--kek", KEK);
  const before = readForChange(file("m.json"));
  await sign("m.json", "alice");
  const withAlice = readFileSync(file("m.json"), "utf8");
  expect(() => {
    replaceDocument(before, "mine");
  }).toThrow("somebody has changed it meanwhile");
  expect(readFileSync(file("m.json"), "utf8")).toBe(withAlice);
});

it("approvals sign follows a link to its file, and replaces neither links nor pipes", async () => {
  await propose("l.json", "destroy", "kms-kek", "--kek", KEK);
  symlinkSync("l.json", file("link"));
  expect((await sign("link", "alice")).code).toBe(0);
  expect(parseApproval(readFileSync(file("l.json"), "utf8")).signatures).toHaveLength(2);
  expect(lstatSync(file("link")).isSymbolicLink()).toBe(true);
  execFileSync("mkfifo", [file("fifo")]);
  expect((await sign("fifo", "alice")).stderr).toContain("fifo is not a regular file");
});

it.each([
  ["a private key", "alice", /alice: it is not a public key of SSH; give a \.pub file/],
  ["a short RSA key", "short.pub", /short\.pub: an RSA key has 3072 to 8192 bits, not 2048/],
  ["a larger curve", "p384.pub", /p384\.pub: keys of type "ecdsa-sha2-nistp384" cannot approve/],
])("policy init names the person and the file of %s", async (_what, name, problem) => {
  const more = [
    ["short", "rsa", "2048"],
    ["p384", "ecdsa", "384"],
  ].find(([one]) => name.startsWith(`${one}.`));
  if (more !== undefined) {
    const [key = "", type = "", bits = ""] = more;
    execFileSync("ssh-keygen", ["-q", "-t", type, "-b", bits, "-N", "", "-f", file(key)]);
  }
  const init = ["policy", "init", file("bad.json"), "--cluster", "c", "--threshold", "policy=1"];
  const { code, stderr } = await approvals(...init, "--approver", `dora=${file(name)}`);
  expect([code, stderr]).toEqual([1, expect.stringMatching(problem)]);
  expect(stderr).toContain("--approver dora: ");
});

it("policy init refuses two roles of a person, and a key_id that no KEK can have", async () => {
  const init = ["policy", "init", file("bad.json"), ...POLICY_OF, "--threshold", "policy=1"];
  const twice = await approvals(...init, "--requester", `alice=${file("bob.pub")}`);
  expect(twice).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("alice is an --approver") as string,
  });
  const prefix = await approvals(...init, "--kek-in-use", "0193...c1");
  expect(prefix).toMatchObject({ code: 2, stderr: expect.stringContaining("not a whole key_id") as string });
  const proposed = await propose("x.json", "destroy", "kms-kek", "--kek", KEK.slice(0, 12));
  expect(proposed).toMatchObject({ code: 2, stderr: expect.stringContaining("--kek: ") as string });
});

it("policy init adds no version to one that is not in force, which nobody could sign any more", async () => {
  const init = ["policy", "init", file("new.json"), ...POLICY_OF, "--threshold", "policy=1"];
  expect((await approvals(...init)).code).toBe(0);
  const before = readFileSync(file("new.json"), "utf8");
  const next = await approvals("policy", "init", file("new.json"), "--next", "--threshold", "policy=2");
  expect(next.stderr).toMatch(
    /new\.json: version 1 .* 0 of its 1 approvers \(nobody\); have the others sign it/,
  );
  expect(readFileSync(file("new.json"), "utf8")).toBe(before);
});

it("a document of another kind, or that is not JSON, is named with the command that writes it", async () => {
  const shown = await approvals("show", POLICY, "--policy", POLICY);
  expect(shown.stderr).toBe(
    `kms-pkcs11: ${POLICY}: it is not the approval; give a file that 'approvals propose' wrote\n`,
  );
  writeFileSync(file("bom.json"), `\ufeff${readFileSync(POLICY, "utf8")}`);
  const verified = await approvals("policy", "verify", file("bom.json"));
  expect(verified.stderr).toContain(`${file("bom.json")}: the policy is not JSON; give a file that`);
  writeFileSync(
    file("escape.json"),
    JSON.stringify({ ...JSON.parse(readFileSync(POLICY, "utf8")), "a\nb": 1 }),
  );
  expect((await approvals("policy", "verify", file("escape.json"))).stderr.split("\n")).toHaveLength(2);
});
