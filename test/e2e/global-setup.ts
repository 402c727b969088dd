// Runs once per run: finds the control plane's binaries, creates the folder of the run, and at the end prints the
// report and removes the folder. E2E_KEEP=1 keeps it, including every log. Starts no server.

import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { TestProject } from "vitest/node";
import { removeLeftFolders } from "../support/left-folders.js";
import { recordIn, renderReport } from "./harness/report.js";

const NAME = "kms-pkcs11-e2e.";
const SCRIPT = fileURLToPath(new URL("../../scripts/e2e-binaries", import.meta.url));

export default function setup(project: TestProject): () => void {
  removeLeftFolders(NAME);
  const binaries = process.env["E2E_BINARIES"] ?? findBinaries();
  const runFolder = join(tmpdir(), NAME + String(process.pid));
  mkdirSync(runFolder, { mode: 0o700 });
  project.provide("binaries", binaries);
  project.provide("runFolder", runFolder);
  for (const [what, value] of versions(binaries)) recordIn(runFolder, "versions", what, value);
  return () => {
    process.stdout.write(`\n${renderReport(runFolder)}\n\n`);
    if (process.env["E2E_KEEP"] === undefined) rmSync(runFolder, { recursive: true, force: true });
    else process.stdout.write(`kept: ${runFolder}\n`);
  };
}

function findBinaries(): string {
  const wanted = process.env["E2E_KUBERNETES"] ?? "newest";
  const output = execFileSync(SCRIPT, ["--kubernetes", wanted], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  return output.trimEnd().split("\n").at(-1) ?? "";
}

function versions(binaries: string): [string, string][] {
  const firstLine = (command: string): string =>
    execFileSync(command, ["--version"], { encoding: "utf8" }).split("\n")[0]?.trim() ?? "";
  return [
    ["Kubernetes", firstLine(join(binaries, "kube-apiserver")).replace("Kubernetes ", "")],
    ["etcd", firstLine(join(binaries, "etcd")).replace("etcd Version: ", "")],
    ["Node.js", process.version],
  ];
}
