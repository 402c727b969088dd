// A plugin that serves several clusters on one token: each has its own KEK, and nothing of one reaches another.

import { connect, type ClientHttp2Session } from "node:http2";
import { createConnection } from "node:net";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { randomBytes } from "node:crypto";

import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { ClustersPlugin } from "../support/clusters-plugin.js";
import { childrenOf, createKek } from "../support/plugin-process.js";
import { useToken } from "../support/token-fixture.js";
import { waitFor } from "../support/wait.js";

const WAIT = { timeoutMs: 30_000, intervalMs: 50 };
const NAMES = ["alpha", "beta", "gamma"];

const softHsm = useToken({ faults: [] });
let kms: ClustersPlugin;

const audit = (): string => join(kms.plugin.folder, "audit");

beforeAll(async () => {
  for (const name of [...NAMES, "delta"]) createKek(softHsm.token, name);
  kms = await ClustersPlugin.on(softHsm.front);
  mkdirSync(audit(), { mode: 0o700 });
  kms.configure(
    { alpha: {}, beta: { cache: { entries: 0 } }, gamma: {} },
    { audit: { file: join(audit(), "audit.log") } },
  );
  await kms.start(...NAMES);
});
afterAll(() => kms.remove());

describe("clusters on one token", () => {
  it("each cluster's key_id, ciphertexts, state and audit log are its own", async () => {
    const seeds = NAMES.map(() => randomBytes(32));
    const sealed = await Promise.all(
      NAMES.map((name, at) => kms.client(name).encrypt(seeds[at] ?? Buffer.alloc(0), `uid-${name}`)),
    );
    expect(new Set(sealed.map(({ keyId }) => keyId)).size).toBe(NAMES.length);
    for (const [at, one] of sealed.entries()) {
      for (const [reader, name] of NAMES.entries()) {
        const opened = kms.client(name).decrypt(one, "read");
        if (reader === at) expect((await opened).equals(seeds[at] ?? Buffer.alloc(0))).toBe(true);
        // Which KEKs there are may take longer to read than a request may.
        else await expect(opened).rejects.toThrow(/^(NOT_FOUND|DEADLINE)/);
      }
    }
    for (const name of NAMES) {
      expect(existsSync(join(kms.plugin.stateDir, "clusters", name, "published-key.json"))).toBe(true);
      const log = (): string => readFileSync(join(audit(), `${name}.audit.log`), "utf8");
      await waitFor(() => log().includes(`uid-${name}`), WAIT);
      expect(NAMES.filter((other) => log().includes(`uid-${other}`))).toEqual([name]);
    }
  });

  it("clusters on one token share its one host", () => {
    expect(childrenOf(kms.plugin.pid ?? 0)).toHaveLength(1);
  });

  it("the metrics of a cluster carry its name, and each family is listed once", async () => {
    const { text } = await kms.get("/metrics");
    for (const name of NAMES) {
      expect(text).toMatch(new RegExp(`^kms_pkcs11_hsm_up\\{cluster="${name}"\\} 1$`, "m"));
    }
    const families = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, family]) => family);
    expect(families).toEqual([...new Set(families)]);
    expect(text.endsWith("# EOF\n")).toBe(true);
    expect(text.split("# EOF")).toHaveLength(2);
  });

  it("readiness and keys are given for each cluster, and liveness for all", async () => {
    expect(await kms.get("/livez")).toEqual({ status: 200, text: "ok\n" });
    expect((await kms.get("/readyz")).status).toBe(200);
    expect((await kms.get("/readyz?cluster=beta")).status).toBe(200);
    const keysOf = async (name: string): Promise<string[]> => {
      const { text } = await kms.get(`/keys?cluster=${name}&refresh`);
      return (JSON.parse(text) as { keys: { label: string }[] }).keys.map(({ label }) => label);
    };
    for (const name of NAMES) expect(await keysOf(name)).toEqual([expect.stringMatching(`^${name}@`)]);
    const unknown = await kms.get("/keys");
    expect([unknown.status, unknown.text]).toEqual([404, expect.stringContaining("alpha beta gamma")]);
    expect((await kms.get("/keys?cluster=nobody")).status).toBe(404);
  });
});

describe("SIGHUP", () => {
  it("a reload adds and removes clusters while the others are served without an error", async () => {
    let failures = 0;
    let answers = 0;
    const sealed = await kms.client("beta").encrypt(randomBytes(32), "u");
    const stop = new AbortController();
    const load = (async () => {
      while (!stop.signal.aborted) {
        await kms
          .client("beta")
          .decrypt(sealed, "u")
          .then(
            () => answers++,
            () => failures++,
          );
      }
    })();
    const pids = childrenOf(kms.plugin.pid ?? 0);
    kms.configure({ alpha: {}, beta: { cache: { entries: 0 } }, delta: {} });
    await kms.reload();
    await kms.serves("delta");
    expect(existsSync(kms.socketOf("gamma"))).toBe(false);
    const { text } = await kms.get("/metrics");
    expect(text).toContain('cluster="delta"');
    expect(text).not.toContain('cluster="gamma"');
    const before = answers;
    await waitFor(() => answers > before, WAIT);
    stop.abort();
    await load;
    expect([failures, childrenOf(kms.plugin.pid ?? 0)]).toEqual([0, pids]);
  });

  it("requests of a removed cluster that are in flight are answered", async () => {
    kms.configure({ alpha: {}, beta: { cache: { entries: 0 } }, gamma: {}, delta: {} });
    await kms.reload();
    await kms.serves("gamma");
    softHsm.fault.set("C_Encrypt sleep 400", "log C_Encrypt");
    const before = softHsm.fault.calls("C_Encrypt");
    const sealing = Promise.all(
      Array.from({ length: 3 }, () => kms.client("gamma").encrypt(randomBytes(32), "u")),
    );
    // One of the calls may belong to the proof of a KEK.
    await waitFor(() => softHsm.fault.calls("C_Encrypt") >= before + 2, WAIT);
    kms.configure({ alpha: {}, beta: { cache: { entries: 0 } }, delta: {} });
    await kms.reload();
    expect(await sealing).toHaveLength(3);
  });

  it("a reload of an invalid configuration changes no cluster", async () => {
    kms.configure({ alpha: {}, beta: {}, delta: { keys: { refreshInterval: "soon" } } });
    await kms.reload();
    expect(kms.plugin.log).toContain("configuration not reloaded");
    for (const name of ["alpha", "beta", "delta"]) {
      expect((await kms.client(name).status()).healthz).toBe("ok");
    }
  });

  it("a reload refuses two clusters that name one KEK", async () => {
    kms.configure({ alpha: {}, beta: {}, delta: {}, twin: { keys: { uri: uriOf("delta") } } });
    await kms.reload();
    expect(kms.plugin.log).toContain("may name the KEK of cluster delta");
    expect(existsSync(kms.socketOf("twin"))).toBe(false);
  });

  it("a reload is refused for clusters whose new audit key is in a folder others can write to", async () => {
    const open = join(kms.plugin.folder, "open");
    mkdirSync(open);
    chmodSync(open, 0o777);
    const log = { file: join(audit(), "audit.log"), keyFile: join(open, "audit.key") };
    kms.configure({ alpha: {}, beta: {}, delta: {} }, { audit: log });
    await kms.reload();
    const refusal = (name: string): RegExp =>
      new RegExp(`"cluster":"${name}".*open can be written by others.*configuration not reloaded`);
    for (const name of ["alpha", "beta", "delta"]) {
      await waitFor(() => refusal(name).test(kms.plugin.log), WAIT);
      expect((await kms.client(name).status()).healthz).toBe("ok");
    }
    expect(readdirSync(open)).toEqual([]);
  });

  it("a reload warns once that others can write to the configuration of the clusters", async () => {
    const { configFile } = kms.plugin;
    const warnings = (): number => kms.plugin.log.split(`${configFile} can be written by others`).length - 1;
    const before = warnings();
    kms.configure({ alpha: {}, beta: {}, delta: {} });
    chmodSync(configFile, 0o666);
    await kms.reload();
    chmodSync(configFile, 0o600);
    expect(warnings() - before).toBe(1);
  });
});

describe("faults of one cluster", () => {
  it("a cluster is served while others flood, lack their KEK or have a hung client", async () => {
    kms.configure({ alpha: {}, beta: { cache: { entries: 0 } }, delta: { requests: 4 }, empty: {} });
    await kms.reload();
    await kms.serves("delta");
    const hung = await hungClient(kms.socketOf("delta"));
    let isOver = false;
    const flood = Array.from({ length: 200 }, async () => {
      while (!isOver) {
        await kms
          .client("delta")
          .encrypt(Buffer.alloc(32), "flood")
          .catch(() => undefined);
      }
    });
    const sealed = await kms.client("beta").encrypt(randomBytes(32), "u");
    for (let request = 0; request < 50; request++) {
      expect(await kms.client("beta").decrypt(sealed, "u")).toHaveLength(32);
      expect((await kms.client("alpha").encrypt(randomBytes(32), "u")).ciphertext.length).toBeGreaterThan(0);
    }
    await expect(kms.client("empty").encrypt(randomBytes(32), "u")).rejects.toThrow(/"empty"/);
    isOver = true;
    await Promise.all(flood);
    hung.destroy();
    const { status, text } = await kms.get("/readyz");
    expect([status, text]).toEqual([503, expect.stringMatching(/^empty: .*holds no KEK "empty"/m)]);
    expect(text).not.toMatch(/^(alpha|beta): /m);
    expect((await kms.get("/readyz?cluster=beta")).status).toBe(200);
  });
});

/** Opens an HTTP/2 connection and a request whose body never ends. */
async function hungClient(socket: string): Promise<ClientHttp2Session> {
  const session = connect("http://localhost", { createConnection: () => createConnection(socket) });
  session.on("error", () => undefined);
  const path = "/v2.KeyManagementService/Encrypt";
  const stream = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc" });
  stream.on("error", () => undefined);
  await new Promise((resolve) => stream.write(Buffer.alloc(3), resolve));
  return session;
}

function uriOf(object: string): string {
  const { label, modulePath, pinFile } = softHsm.front;
  return `pkcs11:token=${label};object=${object}?module-path=${modulePath}&pin-source=file:${pinFile}`;
}
