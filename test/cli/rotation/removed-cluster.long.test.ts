// A cluster that a reload removes or renames while its KEK is rotated or destroyed: commands say so and wait or refuse, and
// no other cluster is touched.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

import { afterAll, beforeAll, expect, it } from "vitest";

import { ClustersPlugin } from "../../support/clusters-plugin.js";
import { runCommand } from "../../support/command.js";
import { createKek, MAIN } from "../../support/plugin-process.js";
import { useToken } from "../../support/token-fixture.js";
import { tokenUri } from "../../support/token.js";

const own = { keys: { refreshInterval: "200ms" } };

const softHsm = useToken();
let kms: ClustersPlugin;

beforeAll(async () => {
  for (const name of ["alpha", "beta"]) createKek(softHsm.token, name);
  kms = await ClustersPlugin.on(softHsm.token);
  kms.configure({ alpha: own, beta: own });
  await kms.start("alpha", "beta");
});
afterAll(() => kms.remove());

interface Ended {
  readonly code: number | null;
  readonly stderr: string;
}

/** Rotates alpha's KEK. Calls the first function when the KEK has been made, the second when a node is waited for. */
async function rotate(
  former: string,
  whenMade: () => Promise<void>,
  whenAway: () => Promise<void>,
): Promise<Ended> {
  const child = spawn(
    process.execPath,
    [
      ...[MAIN, "rotation", "run", "--cluster", "alpha", "--config", kms.plugin.configFile, "-o", "json"],
      ...[
        "--nodes",
        `http://${kms.address}`,
        "--replace",
        former,
        "--activate-in",
        "15s",
        "--until",
        "confirm",
      ],
    ],
    { env: { ...process.env, ...softHsm.token.env }, stdio: ["ignore", "pipe", "pipe"] },
  );
  let stderr = "";
  let away: Promise<void> | undefined;
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
    if (stderr.includes("no cluster")) away ??= whenAway();
  });
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  // As its API server does.
  const asking = setInterval(
    () =>
      void kms
        .client("alpha")
        .status()
        .catch(() => undefined),
    500,
  );
  for await (const line of createInterface({ input: child.stdout })) {
    const event = JSON.parse(line) as { event: string; step: string };
    if (event.event === "begun" && event.step === "activate") await whenMade();
  }
  const code = await ended;
  clearInterval(asking);
  await away;
  return { code, stderr };
}

async function keyCount(name: string): Promise<number> {
  const { text } = await kms.get(`/keys?cluster=${name}`);
  return (JSON.parse(text) as { keys: unknown[] }).keys.length;
}

const reloadWith = async (clusters: Parameters<ClustersPlugin["configure"]>[0]): Promise<void> => {
  kms.configure(clusters);
  await kms.reload();
};

it("a rotation whose cluster is removed says so, and completes when it is served again", async () => {
  const former = (await kms.client("alpha").status()).keyId;
  const { code, stderr } = await rotate(
    former,
    () => reloadWith({ beta: own }),
    () => reloadWith({ alpha: own, beta: own }),
  );
  expect([code, stderr]).toEqual([
    0,
    expect.stringContaining('HTTP status 404: no cluster "alpha" is served there'),
  ]);
  await kms.serves("alpha");
  expect((await kms.client("alpha").status()).keyId).not.toBe(former);
  expect([await keyCount("alpha"), await keyCount("beta")]).toEqual([2, 1]);
});

it("keys destroy refuses while the cluster of the KEK is not served", async () => {
  await reloadWith({ alpha: own, beta: own });
  const { text } = await kms.get("/keys?cluster=alpha");
  const { keys } = JSON.parse(text) as { keys: { keyId: string; state: string }[] };
  const retired = keys.find(({ state }) => state === "retired")?.keyId ?? "";
  await reloadWith({ renamed: { keys: { ...own.keys, uri: tokenUri(softHsm.token, "alpha") } }, beta: own });
  kms.configure({ alpha: own, beta: own });
  const { code, stderr } = await runCommand(
    [
      ...["keys", "destroy", retired, "--cluster", "alpha", "--config", kms.plugin.configFile],
      ...["--nodes", `http://${kms.address}`, "--i-understand-data-is-lost", retired],
    ],
    softHsm.token.env,
  );
  expect([code, stderr]).toEqual([3, expect.stringContaining('no cluster "alpha" is served there')]);
  expect(stderr).toContain("nothing was destroyed");
  await kms.serves("renamed");
  expect(await keyCount("renamed")).toBe(2);
});
