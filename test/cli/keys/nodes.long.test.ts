// Rotations checked through the plugins of two nodes, each with a clone of the token: the clone gets the KEK late, or
// not in time. Can be read as the manual of `keys rotate --nodes`.

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { beforeAll, describe, expect, it } from "vitest";

import { runCommand } from "../../support/command.js";
import { usePlugin } from "../../support/plugin-fixture.js";
import { MAIN, type PluginProcess } from "../../support/plugin-process.js";
import type { ReachablePlugin } from "../../support/reachable-plugin.js";
import { SoftHsmClone } from "../../support/softhsm-clone.js";
import { tokenUri } from "../../support/token.js";
import { waitFor } from "../../support/wait.js";

const LONG = { timeoutMs: 40_000, intervalMs: 50 };

const NODE = { keys: { refreshInterval: "200ms" } };
const near = usePlugin(NODE);
let clone: SoftHsmClone;
let far: ReachablePlugin;
/** Its configuration names both tokens. */
let operator: PluginProcess;
let active: string;

beforeAll(async () => {
  clone = new SoftHsmClone(near.token, "other");
  far = await near.add(NODE, { token: clone });
  await far.start();
  ({ plugin: operator } = await near.add({
    failover: [{ uri: tokenUri(clone, "kms-kek") }],
    audit: { file: join(near.plugin.folder, "audit.log") },
  }));
  const { said } = await keys("list");
  active = (said["keys"] as { keyId: string }[])[0]?.keyId ?? "";
});

interface CommandOutput {
  readonly code: number | null;
  readonly stderr: string;
  readonly said: Record<string, unknown>;
}

const resultOf = (code: number | null, stdout: string, stderr: string): CommandOutput => ({
  code,
  stderr,
  said: stdout === "" ? {} : (JSON.parse(stdout) as Record<string, unknown>),
});
const full = (args: readonly string[]): string[] => [
  "keys",
  ...args,
  "--config",
  operator.configFile,
  "-o",
  "json",
];
const nodes = (): string[] => ["--nodes", `${near.own.url},${far.url}`];

async function keys(...args: string[]): Promise<CommandOutput> {
  const { code, stdout, stderr } = await runCommand(full(args), near.token.env);
  return resultOf(code, stdout, stderr);
}

/** Starts a command whose output is followed, or which is interrupted, while it runs. */
function start(...args: string[]): {
  stderr: () => string;
  interrupt: () => void;
  done: Promise<CommandOutput>;
} {
  const child = spawn(process.execPath, [MAIN, ...full(args)], {
    env: { ...process.env, ...near.token.env },
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  return {
    stderr: () => stderr,
    interrupt: () => child.kill("SIGINT"),
    done: new Promise((resolve) =>
      child.once("close", (code) => {
        resolve(resultOf(code, stdout, stderr));
      }),
    ),
  };
}

const missingAtFar = (stderr: string): boolean =>
  stderr.includes(`${far.url}/keys: missing, has not seen it yet`);

describe("keys rotate --nodes", () => {
  it("--wait ends when the clone arrives, and the unused standby key may be destroyed", async () => {
    const rotation = start("rotate", "--activate-in", "1h", "--wait", ...nodes());
    await waitFor(() => missingAtFar(rotation.stderr()), LONG);
    expect(rotation.stderr()).toMatch(/clone "kms-kek@.*" \(CKA_ID .*\) from .*token=kms.* to .*token=other/);
    expect(await keys("list", ...nodes())).toMatchObject({
      code: 1,
      said: {
        differences: [
          expect.stringMatching(/standby KEK .* missing on .*token=other/),
          expect.stringMatching(`${far.url}/keys has no standby`),
        ],
        nodes: [
          { activeKeyId: active, standby: [expect.any(String)] },
          { activeKeyId: active, standby: [] },
        ],
      },
    });
    clone.sync();
    const { code, said } = await rotation.done;
    expect([code, said]).toMatchObject([
      0,
      {
        converged: true,
        aborted: null,
        tokens: [{ state: "ready" }],
        nodes: [
          { url: `${near.own.url}/keys`, state: "ready" },
          { url: `${far.url}/keys`, state: "ready" },
        ],
      },
    ]);
    const { keyId } = said["created"] as { keyId: string };
    const onlyNodes = await runCommand(["keys", "list", ...nodes()]);
    expect([onlyNodes.code, onlyNodes.stdout]).toEqual([
      0,
      expect.stringMatching(`^NODE.*\n.*${active} *${keyId}`),
    ]);
    expect((await keys("destroy", active, ...nodes())).stderr).toContain("is the active KEK");
    expect((await keys("destroy", keyId)).stderr).toContain("--i-understand-data-is-lost");
    expect(await keys("destroy", keyId, ...nodes())).toMatchObject({
      code: 0,
      said: { destroyed: { keyId, state: "standby" }, tokens: [{ outcome: "done" }, { outcome: "done" }] },
    });
  });

  it("'keys rotate --wait' makes nothing if none of the nodes answers", async () => {
    const before = await keys("list");
    const wrong = ["--nodes", "http://127.0.0.1:9,http://127.0.0.1:10"];
    const rotated = await keys("rotate", "--activate-in", "1h", "--wait", ...wrong);
    expect([rotated.code, rotated.stderr]).toEqual([
      3,
      expect.stringMatching(/no node answers \(.*:9\/keys: .*; .*:10\/keys: .*\); nothing was made/),
    ]);
    expect((await keys("list")).said["keys"]).toHaveLength((before.said["keys"] as unknown[]).length);
  });

  it("'keys list --nodes' compares the tokens of the configuration that the environment names", async () => {
    const env = { ...near.token.env, KMS_PKCS11_CONFIG: operator.configFile };
    const { stdout } = await runCommand(["keys", "list", ...nodes(), "-o", "json"], env);
    const listed = JSON.parse(stdout) as { keys: unknown[]; nodes: unknown[] };
    expect([listed.keys.length > 0, listed.nodes.length]).toEqual([true, 2]);
  });

  it("--abort-unless-converged requires nodes or several tokens", async () => {
    const args = ["--abort-unless-converged", "--key", tokenUri(near.token, "kms-kek")];
    expect(await runCommand(["keys", "rotate", ...args], near.token.env)).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/--abort-unless-converged: give --nodes, or/) as string,
    });
  });

  it("an interrupt destroys a guarded key that is not yet on every token and node", async () => {
    await waitFor(async () => (await keys("list", ...nodes())).code === 0, LONG);
    const rotation = start("rotate", "--activate-in", "1h", "--abort-unless-converged", ...nodes());
    await waitFor(() => missingAtFar(rotation.stderr()), LONG);
    rotation.interrupt();
    expect(await rotation.done).toMatchObject({
      code: 130,
      said: {
        interrupted: true,
        aborted: {
          reason: expect.stringMatching(`interrupted.*${far.url}/keys has not seen it yet`) as string,
          tokens: [{ outcome: "done" }, { outcome: "not needed" }],
        },
        nodes: [{ state: "ready" }, { state: "missing" }],
      },
    });
    expect((await keys("list")).said["keys"]).toMatchObject([{ keyId: active, state: "active" }]);
    const audit = readFileSync(join(near.plugin.folder, "audit.log"), "utf8");
    for (const outcome of ["begun", "ok"]) {
      expect(audit).toMatch(
        new RegExp(`"operation":"keys rotate --abort-unless-converged".*"outcome":"${outcome}"`),
      );
    }
    await far.plugin.stop();
    const refused = await keys("rotate", "--activate-in", "1h", "--abort-unless-converged", ...nodes());
    expect(refused).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(`${far.url}.*nothing was made`) as string,
    });
    expect(await keys("list", ...nodes())).toMatchObject({
      code: 3,
      said: { nodes: [{ error: null }, { activeKeyId: null }] },
    });
    expect((await keys("list")).said["keys"]).toHaveLength(1);
  });
});
