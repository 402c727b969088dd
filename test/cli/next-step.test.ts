// What a command that changed something says to do next.
import type { Command } from "commander";
import { expect, it } from "vitest";

import { nextStep, printResult, type Change } from "../../src/cli/next-step.js";
import { createProgram } from "../../src/cli/program.js";

const ROTATED = {
  did: "rotate",
  activation: "2026-12-01T10:00:00.000Z",
  cancel: "kms-pkcs11 rotation abort new.1 --nodes http://a",
  from: "old.1",
} as const;

const CHANGES: readonly Change[] = [
  { did: "create", lacking: [] },
  { did: "create", lacking: ["b"] },
  { did: "plan a rotation" },
  { ...ROTATED, lacking: [] },
  { ...ROTATED, lacking: ["b"] },
  { did: "destroy", state: "standby" },
  { did: "destroy", state: "retired" },
  { did: "adopt" },
  { did: "plan a migration" },
  { did: "migrate a part" },
  { did: "migrate" },
  { did: "recover a part" },
  { did: "recover" },
  { did: "split" },
  { did: "renew" },
  { did: "write a policy" },
  { did: "sign a policy" },
  { did: "propose" },
  { did: "sign a proposal" },
  { did: "deliver" },
  { did: "lock" },
  { did: "unlock" },
  { did: "send a share" },
];

const SILENT = { out: () => undefined, err: () => undefined, isInteractive: false };

function print(output: "json" | "table", change: Change | undefined): { out: string[]; err: string[] } {
  const shown = { out: [] as string[], err: [] as string[] };
  const terminal = {
    out: (text: string) => void shown.out.push(text),
    err: (text: string) => void shown.err.push(text),
    isInteractive: false,
  };
  printResult({ json: { done: true }, text: "done", change }, output, terminal);
  return shown;
}

it("the next step goes to standard error for people and into the field 'next' of JSON", () => {
  const next = "run 'kms-pkcs11 status --wait 30s'";
  expect(print("table", { did: "unlock" })).toEqual({ out: ["done"], err: [`next: ${next}`] });
  const { out, err } = print("json", { did: "unlock" });
  expect(err).toEqual([]);
  expect(JSON.parse(out.join(""))).toEqual({ done: true, next });
});

it("a command that changed nothing has no next step", () => {
  expect(print("table", undefined)).toEqual({ out: ["done"], err: [] });
  expect(JSON.parse(print("json", undefined).out.join(""))).toEqual({ done: true, next: null });
});

it("a rotation names the replaced KEK if all is ready, and what lacks the new one if not", () => {
  expect(nextStep({ ...ROTATED, lacking: [] })).toMatch(
    /^until 2026-12-01T10:00:00.000Z, .*rotation abort.* after that, run .*etcd migrate.* that old\.1 is not needed/,
  );
  expect(nextStep({ ...ROTATED, lacking: ["b", "c"] })).toMatch(
    /^not yet on every token and node: b, c; .*rotation abort new\.1 --nodes http:/,
  );
});

it.each(CHANGES)("every command and flag of the step after $did exists", async (change) => {
  for (const [, line = ""] of nextStep(change).matchAll(/'kms-pkcs11 ([^']+)'/g)) {
    const words = line.split(" ");
    let command: Command = await createProgram(SILENT, words);
    for (const word of words) {
      const inner: Command | undefined = command.commands.find((one) => one.name() === word);
      if (inner === undefined) break;
      command = inner;
    }
    expect(command.commands, line).toEqual([]);
    const flags = command.options.map(({ long }) => long);
    for (const flag of words.filter((word) => word.startsWith("--"))) expect(flags, line).toContain(flag);
  }
});
