// Ctrl-C while a drill lists the restored objects: a private etcd, plugin and API server are running then.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { DrillReport } from "../../src/evidence/drill-report.js";
import { makeCertificate } from "../support/certificate.js";
import { DrillStage, saveSecrets } from "../support/drill-stage.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { MAIN } from "../support/plugin-process.js";
import { newSeed, sealedValue } from "../support/stored-secrets.js";
import { waitFor } from "../support/wait.js";

const ETCDUTL = fileURLToPath(new URL("../e2e/harness/stand-ins/etcdutl.mjs", import.meta.url));
const APISERVER = fileURLToPath(new URL("../support/hanging-apiserver.mjs", import.meta.url));
const DAMAGED = "/registry/secrets/ns-0/damaged";

const kms = usePlugin();
let stage: DrillStage;

beforeAll(async () => {
  stage = new DrillStage(kms.token);
  makeCertificate(join(stage.folder, "cert.pem"), join(stage.folder, "key.pem"));
  const seed = await newSeed(kms.plugin.socket);
  // Was stored under another key, so that the step "objects" fails.
  await saveSecrets([seed], stage.snapshot, [
    [DAMAGED, sealedValue(seed, "/registry/secrets/ns-0/other", "a")],
  ]);
});
afterAll(() => {
  stage.remove();
});

/** Makes a program that prints its version, and otherwise runs a script of Node.js. Returns its path. */
function program(name: string, asked: string, version: string, script: readonly string[]): string {
  const path = join(stage.folder, name);
  const command = [process.execPath, ...script].map((word) => `'${word}'`).join(" ");
  writeFileSync(
    path,
    `#!/bin/sh\ncase "$1" in ${asked}) echo "${version}"; exit;; esac\nexec ${command} "$@"\n`,
  );
  chmodSync(path, 0o755);
  return path;
}

/** Returns the command lines of the processes that have the folder's name in theirs. */
function processesIn(folder: string): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      const file = `/proc/${pid}/cmdline`;
      return existsSync(file) ? readFileSync(file, "utf8").replaceAll("\0", " ") : "";
    })
    .filter((line) => line.includes(folder));
}

it("Ctrl-C while a drill lists objects ends it with 130, its processes and its folder", async () => {
  const args = stage.args(
    ...["--etcd", "/usr/bin/etcd"],
    ...["--etcdutl", program("etcdutl", "version", "etcdutl version: 3.4.0", [ETCDUTL])],
    ...[
      "--kube-apiserver",
      program("apiserver", "--version", "Kubernetes v1.37.2", [APISERVER, stage.folder]),
    ],
  );
  const child = spawn(process.execPath, [MAIN, ...args], { env: { ...process.env, ...stage.env } });
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  const ended = once(child, "close");
  await waitFor(() => existsSync(join(stage.folder, "asked")), { what: "a LIST", timeoutMs: 50_000 });
  expect(processesIn(stage.temporary)).not.toEqual([]);
  child.kill("SIGINT");
  expect(await ended, stderr).toEqual([130, null]);
  expect(stderr).toContain("interrupted: ending the private processes and removing their files");
  expect([processesIn(stage.temporary), readdirSync(stage.temporary)]).toEqual([[], []]);
  const { steps, passed } = stage.report() as DrillReport;
  const failed = steps.filter(({ outcome }) => outcome === "failed").map(({ detail }) => detail);
  // The drill may not have seen yet that its API server is ready, so the step is "apiserver" or "list".
  expect([passed, failed]).toEqual([false, [expect.stringContaining("1 cannot be read"), "interrupted"]]);
});
