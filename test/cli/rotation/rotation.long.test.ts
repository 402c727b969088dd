// `rotation` on a SoftHSM token with one plugin: run up to the activation, at the same time on two machines, its position,
// and what abort takes back. Can be read as the manual of these commands.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { beforeAll, describe, expect, it } from "vitest";

import { runCommand } from "../../support/command.js";
import { usePlugin } from "../../support/plugin-fixture.js";
import { MAIN } from "../../support/plugin-process.js";
import { tokenUri } from "../../support/token.js";

const kms = usePlugin({ keys: { refreshInterval: "200ms" } });
/** The KEK that the plugin began with. */
let former: string;

const words = (command: string, ...args: string[]): string[] => [
  ...["rotation", command, "--key", tokenUri(kms.token, "kms-kek"), "--nodes", kms.own.url, "-o", "json"],
  ...args,
];

async function rotation(
  command: string,
  ...args: string[]
): Promise<{ code: number | null; stderr: string; lines: string[] }> {
  const { code, stdout, stderr } = await runCommand(words(command, ...args), kms.token.env);
  return { code, stderr, lines: stdout.trimEnd().split("\n") };
}

interface Listed {
  readonly keyId: string;
  readonly state: string;
}

async function listed(): Promise<Listed[]> {
  const list = ["keys", "list", "--key", tokenUri(kms.token, "kms-kek"), "-o", "json"];
  return (JSON.parse((await runCommand(list, kms.token.env)).stdout) as { keys: Listed[] }).keys;
}

const events = (lines: readonly string[]): string[] =>
  lines.map((line) => {
    const { step, event } = JSON.parse(line) as { step?: string; event: string };
    return step === undefined ? event : `${step} ${event}`;
  });

beforeAll(async () => {
  await kms.client.status();
  [former = ""] = (await listed()).map(({ keyId }) => keyId);
});

describe("rotation", () => {
  it("a run requires nodes, etcd for the migration, and a KEK that can be named again", async () => {
    const uri = ["--key", tokenUri(kms.token, "kms-kek")];
    const refusals = [
      [["--until", "confirm"], "--nodes: is missing"],
      [["--nodes", kms.own.url], "give --until confirm"],
      [
        ["--nodes", kms.own.url, "--replace", "@active", "--until", "wait"],
        "names another KEK after the rotation",
      ],
      [["--nodes", kms.own.url, "--max-age", "1h", "--until", "wait"], "give at least 24h"],
      [["--nodes", kms.own.url, "--until", "wait", "--destroy-after", "1h"], "omit --until wait"],
    ] as const;
    const env = { ...kms.token.env, ETCDCTL_ENDPOINTS: "" };
    const ended = await Promise.all(
      refusals.map(([args]) => runCommand(["rotation", "run", ...uri, ...args], env)),
    );
    for (const [index, { code, stderr }] of ended.entries()) {
      expect([code, stderr]).toEqual([2, expect.stringContaining(refusals[index]?.[1] ?? "")]);
    }
  });

  it("two runs at the same time make one KEK, and both end with it", async () => {
    const start = async (): Promise<{ code: number; stdout: string; stderr: string }> => {
      const args = words("run", "--replace", former, "--activate-in", "1h", "--until", "wait");
      const child = spawn(process.execPath, [MAIN, ...args], { env: { ...process.env, ...kms.token.env } });
      const [stdout, stderr, [code]] = (await Promise.all([
        text(child.stdout),
        text(child.stderr),
        once(child, "close"),
      ])) as [string, string, [number]];
      return { code, stdout, stderr };
    };
    const runs = await Promise.all([start(), start()]);
    expect(
      runs.map(({ code }) => code),
      JSON.stringify(runs),
    ).toEqual([0, 0]);
    const [standby, active, ...others] = await listed();
    expect([standby?.state, active, others]).toEqual([
      "standby",
      { ...active, keyId: former, state: "active" },
      [],
    ]);
    for (const { stdout } of runs) {
      const report = JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "") as object;
      expect(report).toMatchObject({
        event: "report",
        last: "wait",
        next: "activate",
        kek: { keyId: standby?.keyId },
      });
    }
  });

  it("a run continues with the standby KEK, and the status shows its position", async () => {
    const { code, stderr, lines } = await rotation("run", "--replace", former, "--until", "wait");
    expect([code, events(lines)], stderr).toEqual([0, ["preflight begun", "preflight done", "report"]]);
    expect(stderr).toMatch(/^continuing with .* which is standby already\n$/);
    const { lines: shown } = await rotation("status", "--replace", former);
    expect(JSON.parse(shown.join("\n"))).toMatchObject({
      step: "activate",
      until: expect.stringMatching(/Z$/) as string,
      keks: [{ state: "standby" }, { keyId: former, state: "active" }],
      nodes: [{ publishedKeyId: former, problems: [] }],
      lacking: [],
    });
  });

  it("abort takes back a standby KEK that nothing uses, and refuses to take back an active one", async () => {
    const [standby] = await listed();
    expect(await rotation("abort")).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("[key_id]: is missing") as string,
    });
    const refused = await rotation("abort", former);
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringContaining(`rotation run --replace ${former}`),
    ]);
    // An etcd that only the environment names, and that does not answer, prevents nothing.
    const env = { ...kms.token.env, ETCDCTL_ENDPOINTS: "http://127.0.0.1:1" };
    const { code, stderr, stdout } = await runCommand(words("abort", standby?.keyId ?? ""), env);
    expect([code, stderr], stdout).toEqual([0, expect.stringContaining("stays active")]);
    expect(stderr).toContain("warning: the etcd of ETCDCTL_ENDPOINTS was not searched");
    expect(await listed()).toMatchObject([{ keyId: former, state: "active" }]);
    const again = await rotation("abort", standby?.keyId ?? "");
    expect(again.stderr).toContain(
      `no token holds a KEK with key_id ${standby?.keyId ?? ""}; nothing was destroyed`,
    );
  });
});
