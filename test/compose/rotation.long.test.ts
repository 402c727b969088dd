// Rotation in a running plugin on a real token: the switch at the instant under load, a cancelled KEK, and a KEK that
// fails its proof. The plugin polls far too rarely to notice any of this by chance.

import { setTimeout as sleep } from "node:timers/promises";

import { describe, expect, it } from "vitest";

import type { KmsCiphertext } from "../../src/kms-client/kms-client.js";
import { hashKeyId } from "../../src/observability/scraped-metrics.js";
import { labelOf } from "../../src/provider/kek-label.js";
import { Pkcs11Client } from "../support/pkcs11-client.js";
import { runCommand } from "../support/command.js";
import { usePlugin } from "../support/plugin-fixture.js";
import type { CommandResult } from "../support/plugin-process.js";
import { makePlainKey } from "../support/softhsm.js";
import { tokenUri } from "../support/token.js";
import { waitFor } from "../support/wait.js";

const LONG = { timeoutMs: 30_000, intervalMs: 20 };
const DELAY = "12s";
const SEED = Buffer.alloc(32, 7);
const ENCRYPTING_AT_ONCE = 8;

interface ReportedKey {
  readonly keyId: string;
  readonly state: string;
  readonly activation: string | null;
  readonly provenAt: string | null;
  readonly failure: string | null;
}
interface Report {
  readonly now: string;
  readonly activeKeyId: string | null;
  readonly publishedKeyId: string | null;
  readonly dueKeyId: string | null;
  readonly heldBack: string | null;
  readonly answered: readonly { readonly keyId: string }[];
  readonly keys: readonly ReportedKey[];
}

const kms = usePlugin(
  { keys: { refreshInterval: "5m" }, health: { proofInterval: "10m" }, hsm: {}, cache: { entries: 0 } },
  {
    token: {},
    object: "console",
    prepare: ({ token }) => {
      makePlainKey(token, "console", "aa");
    },
  },
);

const report = async (): Promise<Report> => (await (await kms.own.get("/keys")).json()) as Report;
const reported = async (keyId: string): Promise<ReportedKey | undefined> =>
  (await report()).keys.find((key) => key.keyId === keyId);

/** Makes the plugin read the token at once, by a Decrypt with an unknown key_id. */
async function haveTokenRead(): Promise<void> {
  const { ciphertext, annotations } = await kms.client.encrypt(SEED, "any");
  await expect(kms.client.decrypt({ ciphertext, annotations, keyId: "unknown" }, "any")).rejects.toThrow(
    /unknown/,
  );
}

async function keys(...args: string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await runCommand(
    ["keys", ...args, "--key", tokenUri(kms.token, "console"), "-o", "json"],
    kms.token.env,
  );
  expect([code, stderr]).toEqual([0, expect.not.stringContaining("kms-pkcs11:")]);
  return JSON.parse(stdout) as Record<string, unknown>;
}

async function make(delay: string): Promise<{ keyId: string; activation: number }> {
  const { created, activation } = (await keys("rotate", "--activate-in", delay)) as {
    created: { keyId: string };
    activation: string;
  };
  return { keyId: created.keyId, activation: Date.parse(activation) };
}

async function rotate(delay = DELAY): Promise<{ keyId: string; activation: number }> {
  const { keyId, activation } = await make(delay);
  await waitFor(async () => {
    await haveTokenRead();
    return (await reported(keyId))?.provenAt;
  }, LONG);
  return { keyId, activation };
}

/** All answers in the order in which they arrived. */
interface Answers {
  readonly order: {
    readonly operation: "Status" | "Encrypt";
    readonly keyId: string;
    readonly healthz?: string;
  }[];
  readonly sealed: KmsCiphertext[];
}

/**
 * Calls Status repeatedly, and Encrypt at the same time, until `isEnough`. Calls as often as possible from a second before
 * the instant on.
 */
async function load(instant: number, isEnough: (answers: Answers) => boolean): Promise<Answers> {
  const answers: Answers = { order: [], sealed: [] };
  const pace = async (): Promise<void> => {
    if (Date.now() < instant - 1_000) await sleep(100);
  };
  const statuses = async (): Promise<void> => {
    while (!isEnough(answers)) {
      await pace();
      answers.order.push({ operation: "Status", ...(await kms.client.status()) });
    }
  };
  const encrypts = async (): Promise<void> => {
    while (!isEnough(answers)) {
      await pace();
      const sealed = await kms.client.encrypt(SEED, "load");
      answers.order.push({ operation: "Encrypt", keyId: sealed.keyId });
      answers.sealed.push(sealed);
    }
  };
  await Promise.all([statuses(), ...Array.from({ length: ENCRYPTING_AT_ONCE }, encrypts)]);
  return answers;
}

describe("a rotation from a key that pkcs11-tool made", () => {
  it("a rotation is proven in advance and switches Status and Encrypt together under load", async () => {
    const { keyId: before } = await kms.client.status();
    const { keyId, activation } = await rotate();
    expect(await report()).toMatchObject({
      publishedKeyId: before,
      activeKeyId: before,
      heldBack: null,
      keys: [
        { keyId, state: "standby", failure: null },
        { keyId: before, state: "active", activation: null },
      ],
    });
    let afterwards = 0;
    const { order, sealed } = await load(activation, ({ order: all }) => {
      if (all.at(-1)?.keyId === keyId) afterwards++;
      return afterwards > 200;
    });
    expect(Date.now()).toBeGreaterThanOrEqual(activation);
    expect(new Set(order.map((answer) => answer.keyId))).toEqual(new Set([before, keyId]));
    expect(order.filter(({ healthz }) => healthz !== undefined && healthz !== "ok")).toEqual([]);
    // One change, made by a Status answer: every answer before it names the earlier KEK, every answer after it the new
    // one.
    const change = order.findIndex((answer) => answer.keyId === keyId);
    expect(order[change]?.operation).toBe("Status");
    expect(order.slice(change).filter((answer) => answer.keyId !== keyId)).toEqual([]);
    const [oldest, newest] = [sealed.at(0), sealed.at(-1)];
    for (const one of [oldest, newest]) {
      if (one === undefined) throw new Error("nothing was sealed");
      expect((await kms.client.decrypt(one, "after")).equals(SEED)).toBe(true);
    }
    expect((await report()).keys.map(({ state }) => state)).toEqual(["active", "retired"]);
  });
});

describe("a KEK that is due", () => {
  it("a KEK that is due is reported as due, and the KEK in use as active, until a Status call", async () => {
    const { keyId: before } = await kms.client.status();
    const { keyId } = await make("2s");
    await waitFor(async () => {
      await haveTokenRead();
      return (await report()).dueKeyId === keyId;
    }, LONG);
    expect((await kms.client.encrypt(SEED, "due")).keyId).toBe(before);
    expect(await report()).toMatchObject({
      publishedKeyId: before,
      heldBack: null,
      keys: [{ keyId, state: "due" }, { keyId: before, state: "active" }, { state: "retired" }],
    });
    const metrics = await (await kms.own.get("/metrics")).text();
    expect(metrics).toContain(`key_info{key_id_hash="${hashKeyId(keyId)}",state="due"} 1`);
    expect(metrics).toContain(`key_info{key_id_hash="${hashKeyId(before)}",state="active"} 1`);
    const list = (): Promise<CommandResult> =>
      runCommand(
        ["keys", "list", "--key", tokenUri(kms.token, "console"), "--nodes", kms.own.url],
        kms.token.env,
      );
    const { code, stdout } = await list();
    expect([code, stdout]).toEqual([
      1,
      expect.stringMatching(
        new RegExp(
          `${keyId} is due and waits for a Status call, until then ${before} is in use; run 'kms-pkcs11 status`,
        ),
      ),
    ]);
    expect(stdout.match(/^differs: /gm)).toHaveLength(1);
    expect((await runCommand(["status", "--socket", kms.plugin.socket])).code).toBe(0);
    expect(await report()).toMatchObject({ publishedKeyId: keyId, dueKeyId: null });
    expect((await list()).code).toBe(0);
    const { answered } = await report();
    expect(new Set(answered.map((one) => one.keyId))).toContain(before);
  });
});

describe("a standby KEK", () => {
  it("a cancelled standby KEK does not block a rotation, however rarely the plugin polls", async () => {
    const { keyId } = await rotate("1h");
    await keys("destroy", keyId, "--i-understand-data-is-lost", keyId);
    expect((await report()).keys[0]).toMatchObject({ keyId, state: "standby" });
    const again = ["rotate", "--activate-in", "1h", "--abort-unless-converged", "--dry-run"];
    await keys(...again, "--nodes", kms.own.url);
    expect((await report()).keys.map((key) => key.keyId)).not.toContain(keyId);
  });

  it("a standby KEK destroyed before its activation is not used, however rarely nodes poll", async () => {
    const { keyId: active } = await kms.client.status();
    // A standby KEK may be destroyed until 10 s before its instant.
    const { keyId, activation } = await rotate("25s");
    await keys("destroy", keyId, "--i-understand-data-is-lost", keyId);
    expect(await reported(keyId)).toMatchObject({ state: "standby", cameLater: true });
    const { order } = await load(activation, () => Date.now() > activation + 300);
    expect(new Set(order.map((answer) => answer.keyId))).toEqual(new Set([active]));
    expect(order.filter(({ healthz }) => healthz !== undefined && healthz !== "ok")).toEqual([]);
    await waitFor(async () => (await reported(keyId)) === undefined, LONG);
    const logged = await waitFor(() => {
      const lines = kms.plugin.log.split("\n").slice(0, -1);
      const found = lines.filter((line) => line.includes(keyId) && line.includes("on the token"));
      return found.length > 0 && found;
    });
    expect(logged).toEqual([expect.stringMatching(/"level":"warn".*is no longer on the token/)]);
  });

  it("a standby KEK that fails its self-test is not activated; Status reports the reason", async () => {
    const { keyId: active } = await kms.client.status();
    const label = labelOf("console", Math.ceil(Date.now() / 1000) * 1000 + 3_000);
    const child = new Pkcs11Client(kms.token);
    await child.open();
    await child.run(({ p11, state }, name) => {
      const none = [p11.CKA_ENCRYPT, p11.CKA_DECRYPT, p11.CKA_WRAP, p11.CKA_UNWRAP].map((use) => [
        use,
        false,
      ]);
      state.makeKey({ [p11.CKA_LABEL]: name, ...(Object.fromEntries(none) as Record<number, false>) });
    }, label);
    await child.kill();
    await haveTokenRead();
    const useless = await waitFor(
      async () => (await report()).keys.find(({ state, failure }) => state === "standby" && failure !== null),
      LONG,
    );
    const said = await waitFor(async () => {
      const { healthz } = await kms.client.status();
      return healthz !== "ok" && healthz;
    }, LONG);
    expect(said).toMatch(new RegExp(`${useless.keyId} is due but not activated: .*none of the mechanisms`));
    expect(await kms.client.status()).toMatchObject({ keyId: active });
    expect((await kms.client.encrypt(SEED, "held back")).keyId).toBe(active);
    expect(await report()).toMatchObject({
      publishedKeyId: active,
      heldBack: expect.stringContaining(useless.keyId) as string,
      keys: [
        { keyId: useless.keyId, state: "standby" },
        { keyId: active, state: "active" },
        { state: "retired" },
        { state: "retired" },
      ],
    });
    expect((await kms.own.get("/readyz")).status).toBe(503);
  });
});
