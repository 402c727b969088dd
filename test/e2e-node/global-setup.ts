// Runs once per run: creates the folder of the run and passes on what scripts/e2e-node has prepared. At the end it prints the
// report and removes the folder, unless E2E_KEEP is set. Starts no node.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import "./harness/end-with-runner.js";
import { removeLeftFolders } from "../support/left-folders.js";
import { recordIn, renderReport } from "../e2e/harness/report.js";

const NAME = "kms-pkcs11-node.";

declare module "vitest" {
  interface ProvidedContext {
    /** The folder with the archives of scripts/e2e-node-images. */
    archives: string;
    /** The tarball of scripts/package; the .deb is beside it. */
    tarball: string;
  }
}

export default function setup(project: TestProject): () => void {
  const [binaries, archives, tarball] = ["E2E_BINARIES", "E2E_ARCHIVES", "E2E_TARBALL"].map(required);
  if (binaries === undefined || archives === undefined || tarball === undefined) {
    throw new Error("unreachable");
  }
  removeLeftFolders(NAME);
  const runFolder = join(tmpdir(), NAME + String(process.pid));
  mkdirSync(runFolder, { mode: 0o755 });
  project.provide("runFolder", runFolder);
  project.provide("binaries", binaries);
  project.provide("archives", archives);
  project.provide("tarball", tarball);
  recordIn(runFolder, "versions", "Kubernetes", firstLine(join(binaries, "kube-apiserver"), "--version"));
  recordIn(runFolder, "versions", "etcd", firstLine(join(binaries, "etcd"), "--version"));
  recordIn(runFolder, "versions", "containerd", firstLine("containerd", "--version"));
  recordIn(runFolder, "versions", "runc", firstLine("runc", "--version"));
  recordIn(runFolder, "versions", "kernel", firstLine("uname", "-r"));
  recordIn(runFolder, "image", "size", readFileSync(join(archives, "plugin.size"), "utf8").trim());
  return () => {
    process.stdout.write(`\n${renderReport(runFolder)}\n\n`);
    if (process.env["E2E_KEEP"] === undefined) rmSync(runFolder, { recursive: true, force: true });
    else process.stdout.write(`kept: ${runFolder}\n`);
  };
}

function required(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set: run scripts/e2e-node`);
  return value;
}

function firstLine(command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: "utf8" }).split("\n")[0]?.trim() ?? "";
}
