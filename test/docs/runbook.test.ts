// How a runbook's output is compared with a command's output. The end-to-end tests compare every runbook this way.

import { expect, it } from "vitest";

import { nextStep } from "../../src/cli/next-step.js";
import { isAsShown, readRunbook } from "../e2e/harness/runbook.js";

it.each([
  ["", "", true],
  ["a\n", "", false],
  ["", "a", false],
  ["", "…", true],
  ["a  b\n", "a b", true],
  ["key 0198.c1 of kms-kek\n", "key … of kms-kek", true],
  ["key 0198.c1\n", "key", false],
  ["a\nb\nc\n", "a\n…\nc", true],
  ["a\nc\n", "a\n…\nc", true],
  ["a\nc\nb\nc\n", "…\nc", true],
  ["a\nc\nb\n", "…\nc", false],
  ["a\nb\n", "a\nb\n…", true],
  ["a\nb\nc\n", "a\nb", false],
  ["1\n2\nx\n3\nx\n4\n", "…\nx\n…\n4", true],
  ["(a) $1\n", "(a) $1", true],
])("%j is shown by %j: %j", (printed, shown, verdict) => {
  expect(isAsShown(printed, shown)).toBe(verdict);
});

it("a long output that differs from the runbook is rejected quickly", () => {
  const printed = "a line of some length, as a table has them\n".repeat(2_000);
  expect(isAsShown(printed, `${"…\na line …\n".repeat(20)}the end`)).toBe(false);
});

it.each(["install-kubeadm.md", "install-systemd.md"])("%s shows the next step of a command", async (name) => {
  const steps = await readRunbook(new URL(`../../deploy/${name}`, import.meta.url));
  const shownAfter = (command: string): string | undefined =>
    steps
      .find((step) => step.command.startsWith(command))
      ?.output.split("\n")
      .at(-1);
  const created = nextStep({ did: "create", lacking: [] });
  expect(shownAfter("kms-pkcs11 keys create")).toBe(`next: ${created}`);
  expect(shownAfter("kms-pkcs11 etcd migrate")).toBe(`next: ${nextStep({ did: "migrate" })}`);
});
