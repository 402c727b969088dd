// A folder with people's keys and a policy in force, and the commands for approvals, with the real ssh-keygen.

import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect } from "vitest";

import { runCommand } from "./command.js";
import { makeFolder } from "./token.js";

export const folder = makeFolder("approvals-cli");
export const file = (name: string): string => join(folder, name);
export const POLICY = file("policy.json");
export const KEK = "0193.c0123456789abcdef0123456789abcdef";

export const POLICY_OF = [
  ...["--cluster", "prod-1", "--requester", `olga=${file("olga.pub")}`],
  ...["alice", "bob"].flatMap((name) => ["--approver", `${name}=${file(`${name}.pub`)}`]),
];

export const approvals = (...args: string[]) => runCommand(["approvals", ...args]);

export const propose = (name: string, operation: string, label: string, ...more: string[]) =>
  approvals(
    ...["propose", file(name), "--policy", POLICY, "--operation", operation, "--label", label],
    ...[
      "--token",
      "kms",
      "--proposer",
      "olga",
      "--reason",
      "a \u001b[2J test",
      "-i",
      file("olga"),
      "--yes",
      ...more,
    ],
  );

export const sign = (name: string, who: string, ...more: string[]) =>
  approvals("sign", file(name), "--policy", POLICY, "-i", file(who), "--yes", ...more);

/** Makes keys and a policy that is in force. */
export async function makePolicy(): Promise<void> {
  for (const name of ["alice", "bob", "olga"]) {
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", file(name)]);
  }
  const thresholds = ["policy=2", "activate=2", "destroy=2", "rotate=1"].flatMap((one) => [
    "--threshold",
    one,
  ]);
  const made = await approvals("policy", "init", POLICY, ...POLICY_OF, ...thresholds);
  expect(made).toMatchObject({ code: 0, stderr: expect.stringMatching(/^next: [^\n]+\n$/) as unknown });
  for (const name of ["alice", "bob"]) {
    const signed = await approvals("policy", "sign", POLICY, "-i", file(name), "--yes", "-o", "json");
    expect(signed).toMatchObject({ code: 0 });
  }
  const verified = await approvals("policy", "verify", POLICY);
  expect(verified).toMatchObject({ code: 0 });
  writeFileSync(file("root"), verified.stdout);
}
