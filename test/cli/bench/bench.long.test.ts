// `kms-pkcs11 bench` with real plugins on a SoftHSM token: it makes the measurements that it reports. Times are not
// checked.
import { beforeAll, describe, expect, it } from "vitest";

import type { BenchResult } from "../../../src/bench/result.js";
import { benchSettings } from "../../../src/cli/bench/plan.js";
import { runCommand } from "../../support/command.js";
import { usePlugin } from "../../support/plugin-fixture.js";
import type { ReachablePlugin } from "../../support/reachable-plugin.js";
import { tokenUri } from "../../support/token.js";

const QUICK = ["--repetitions", "2", "--turn", "5", "--concurrency", "1,4", "--sessions", "1,4"];
const OPERATIONS = ["Status", "Encrypt", "Decrypt first", "Decrypt again"];

const ours = usePlugin();
let other: ReachablePlugin;

beforeAll(async () => {
  other = await ours.add({ mode: "local-kek" });
  await other.start();
});

/** Returns the plugin's own counts of requests. */
async function counted(): Promise<Record<string, number>> {
  const text = await (await ours.own.get("/metrics")).text();
  const rows = text.matchAll(/^kms_pkcs11_requests_total\{operation="(\w+)",code="OK"\} (\d+)$/gm);
  return Object.fromEntries([...rows].map(([, operation = "", value]) => [operation, Number(value)]));
}

describe("bench", () => {
  it("bench measures core, token and two plugins, and its counts match the plugin's", async () => {
    const before = await counted();
    const asked = ["--key", tokenUri(ours.token, "kms-kek"), "--socket", ours.plugin.socket, "--versus"];
    const { code, stdout, stderr } = await runCommand(
      ["bench", ...asked, `unix://${other.plugin.socket}`, "--bytes", "32", ...QUICK, "-o", "json"],
      ours.token.env,
    );
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).not.toContain(ours.token.pinFile);
    const result = JSON.parse(stdout) as BenchResult;
    expect(result.machine).toMatchObject({ node: process.version, openssl: process.versions.openssl });
    expect(result.settings).toMatchObject({
      repetitions: 2,
      turnMs: 5,
      concurrency: [1, 4],
      sessions: [1, 4],
    });

    const core = result.core.map(({ implementation, operation }) => `${implementation} ${operation}`);
    const both = ["core seal", "WebCrypto seal", "core open", "WebCrypto open"];
    expect(core.slice(0, 4)).toEqual(both);
    expect(result.core.every(({ nsPerOperation }) => nsPerOperation.median > 0)).toBe(true);

    // On SoftHSM, a KEK made by `keys create` performs this one mechanism only: its other uses are forbidden.
    expect(result.token.map((one) => `${one.mechanism} ${one.operation} ${one.concurrency}`)).toEqual(
      [1, 4].flatMap((callers) =>
        ["encrypt", "decrypt"].map((operation) => `aes-gcm ${operation} ${callers}`),
      ),
    );

    const cases = result.plugin.filter(({ target }) => target === ours.plugin.socket);
    expect(cases.map(({ operation, concurrency }) => `${operation} ${concurrency}`).sort()).toEqual(
      OPERATIONS.flatMap((operation) => [`${operation} 1`, `${operation} 4`]).sort(),
    );
    expect(result.versus).toHaveLength(cases.length);
    expect(result.versus.every(({ versus }) => versus === `unix://${other.plugin.socket}`)).toBe(true);

    const after = await counted();
    const reported = (operation: string): number =>
      cases.filter((one) => one.operation === operation).reduce((sum, { requests }) => sum + requests, 0);
    expect((after["Status"] ?? 0) - (before["Status"] ?? 0)).toBe(reported("Status"));
    // Besides the measured requests there are 200 to warm up.
    const decrypts = reported("Decrypt first") + reported("Decrypt again") + 200;
    expect((after["Decrypt"] ?? 0) - (before["Decrypt"] ?? 0)).toBe(decrypts);
  });

  it("bench prints tables; without a key and a socket only that of the core", async () => {
    const { code, stdout } = await runCommand(["bench", "--bytes", "16", ...QUICK]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^BYTES .*\n16 .*seal .*core /m);
    expect(stdout).not.toContain("Plugin");
  });

  it.each([
    [{ versus: "unix:///x.sock" }, /also give --socket, the plugin to compare/],
    [{ concurrency: "1,none" }, /--concurrency: "none" is not a whole number; give one from 1 to 512/],
    [{ turn: "0" }, /--turn: "0" is not a whole number/],
  ])("bench refuses the options %j", (wrong, why) => {
    const right = { concurrency: "1", sessions: "1", repetitions: "1", turn: "1", output: "json" } as const;
    expect(() => benchSettings({ ...right, ...wrong })).toThrow(why);
  });

  it("bench exits with 3 if no plugin listens on the socket", async () => {
    const args = ["bench", "--bytes", "16", ...QUICK, "--socket", `${ours.plugin.socket}.none`];
    expect((await runCommand(args)).code).toBe(3);
  });
});
