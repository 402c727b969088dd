// What nodes must answer before a KEK may be destroyed, and what they list afterwards.

import { afterEach, describe, expect, it } from "vitest";

import { nodesAfterDestroy, warningsAfterDestroy } from "../../src/admin/nodes-after-destroy.js";
import type { UncertainUse } from "../../src/admin/node-use.js";
import { requireLeft, requireUnusedNow, type NodesAnswer } from "../../src/admin/require-of-nodes.js";
import { ACTIVE, FakeNodes, standby, type KeysAnswer } from "../support/fake-nodes.js";
import { freePort } from "../support/free-port.js";

const HOUR_MS = 3_600_000;
/** Returns a CKA_ID of that time. */
const uuidV7 = (time: number): string =>
  `${time.toString(16).padStart(12, "0")}7${"a".repeat(3)}8${"b".repeat(15)}`;
const nodes = new FakeNodes();
const node: FakeNodes["node"] = (...args) => nodes.node(...args);
const serve: FakeNodes["serve"] = (listener) => nodes.serve(listener);

afterEach(() => {
  nodes.close();
});

describe("destroying a standby KEK without a proof", () => {
  const activation = Date.now() + HOUR_MS;
  /** Made five minutes ago. */
  const kek = { keyIds: ["s", "also-s"], others: [], ckaId: uuidV7(Date.now() - 300_000) };
  const iso = (agoMs: number): string => new Date(Date.now() - agoMs).toISOString();
  const REMEMBERS = { remembersSince: iso(HOUR_MS) };
  const answerOf = async (...urls: Promise<URL>[]): Promise<NodesAnswer> =>
    requireUnusedNow(kek, activation, await Promise.all(urls));
  const refusal = (...urls: Promise<URL>[]): Promise<string> =>
    answerOf(...urls).then(({ statement }) => statement, String);
  const doubt = async (answer: Partial<KeysAnswer>, of = kek): Promise<UncertainUse | undefined> =>
    (await requireUnusedNow(of, activation, [await node(REMEMBERS), await node(answer)])).uncertainUse;

  it("a standby KEK needs no proof if no node has used it, whether or not they have seen it", async () => {
    const answer = await answerOf(node(REMEMBERS), node({ ...REMEMBERS, keys: [ACTIVE] }));
    expect(answer.statement).toMatch(/^standby, and used by none of http/);
    expect(answer.uncertainUse).toBeUndefined();
  });

  it("a standby KEK that is active, due, superseded or nearly due on a node is kept", async () => {
    const inState = (state: "retired" | "due") => ({ ...standby("s"), state });
    expect(await refusal(node(), node({ publishedKeyId: "s" }))).toMatch(/s is active there/);
    expect(await refusal(node({ activeKeyId: "s" }))).toMatch(/s is due there/);
    expect(await refusal(node({ dueKeyId: "also-s" }))).toMatch(/also-s is due there/);
    expect(await refusal(node({ keys: [inState("due"), ACTIVE] }))).toMatch(/not standby there/);
    expect(await refusal(node({ keys: [inState("retired"), ACTIVE] }))).toMatch(/not standby there/);
    expect(await refusal(node({ publishedKeyId: "also-s" }))).toMatch(/also-s is active there/);
    expect(await refusal(node({ keys: [{ ...inState("retired"), keyId: "also-s" }, ACTIVE] }))).toMatch(
      /not standby there/,
    );
    expect(await refusal(node({}, HOUR_MS - 5_000))).toMatch(
      /becomes active within 10 s by that node's clock/,
    );
    await expect(requireUnusedNow(kek, Date.now() + 9_500, [await node(REMEMBERS, -2_500)])).rejects.toThrow(
      /about to become active/,
    );
    expect(
      await refusal(
        node(),
        serve((_q, response) => response.writeHead(500).end()),
      ),
    ).toMatch(/HTTP status 500/);
  });

  it("a standby KEK is kept while a node's or this machine's clock is wrong", async () => {
    expect(await refusal(node(), node({}, -60_000))).toMatch(
      /its clock is (59|60)\.\d s behind .*nothing was destroyed/,
    );
    expect(await refusal(node({}, -60_000), node({}, -60_000))).toMatch(/this machine: its clock is (59|60)/);
  });

  it("a standby KEK needs a proof if a node has answered under any of its key_ids", async () => {
    const answered = [
      { keyId: "a", statusAt: iso(1_000), encryptAt: null },
      { keyId: "also-s", statusAt: iso(90_000), encryptAt: iso(60_000) },
    ];
    const said = await doubt({ ...REMEMBERS, answered });
    expect(said?.reason).toMatch(/^http.*: its Status or Encrypt answered under it at /);
    expect(Date.now() - (said?.lastUse ?? 0)).toBeGreaterThan(50_000);
    expect(Date.now() - (said?.lastUse ?? 0)).toBeLessThan(70_000);
  });

  it("a standby KEK needs a proof if a node's memory is younger, or an age is unknown", async () => {
    const young = { remembersSince: iso(200_000) };
    expect((await doubt(young))?.reason).toMatch(/remembers only since .*, and the KEK was made at /);
    expect((await doubt(young))?.lastUse).toBeLessThan(Date.now() - 190_000);
    const seen = { ...standby("also-s"), cameLater: false };
    expect((await doubt({ ...REMEMBERS, keys: [seen, ACTIVE] }))?.reason).toMatch(
      /on its token when its memory began/,
    );
    for (const ckaId of [
      "",
      "0a",
      "6ba7b8109dad11d180b400c04fd430c8",
      kek.ckaId.replace(/^(.{12})7/, "$14"),
    ]) {
      expect((await doubt(REMEMBERS, { ...kek, ckaId }))?.reason).toMatch(
        /CKA_ID does not show when it was made/,
      );
    }
    // An earlier release answers like this.
    expect(await doubt({})).toMatchObject({ lastUse: undefined });
  });
});

describe("a KEK whose key_id has changed", () => {
  const id = uuidV7(Date.now() - 300_000);
  const kek = { keyIds: [`${id}.n`], others: [], ckaId: id };
  const earlier = `${id}.c${"1".repeat(32)}`;

  it("a KEK is kept while it is active on a node under an earlier key_id", async () => {
    const left = async (answer: Partial<KeysAnswer>): Promise<unknown> =>
      requireLeft(kek, [await node(answer)]);
    await expect(left({ publishedKeyId: earlier })).rejects.toThrow(`${earlier} is active there`);
    await expect(left({ publishedKeyId: "b", dueKeyId: earlier })).rejects.toThrow(`${earlier} is due there`);
  });

  it("a standby KEK needs a proof if a node has used or retired it under an earlier key_id", async () => {
    const asked = async (answer: Partial<KeysAnswer>): Promise<NodesAnswer> =>
      requireUnusedNow(kek, Date.now() + HOUR_MS, [await node(answer)]);
    const now = new Date().toISOString();
    const answered = [{ keyId: earlier, statusAt: now, encryptAt: null }];
    const { uncertainUse } = await asked({ remembersSince: new Date(0).toISOString(), answered });
    expect(uncertainUse?.reason).toMatch(/Status or Encrypt answered under it/);
    const retired = { ...standby(earlier), state: "retired" } as const;
    await expect(asked({ keys: [retired, ACTIVE] })).rejects.toThrow("is not standby there");
  });
});

describe("a retired KEK", () => {
  it("a retired KEK is kept while a node encrypts under it or does not answer", async () => {
    const others = { activeKeyId: "b", publishedKeyId: "b" };
    const kek = { keyIds: ["a", "alias"], others: [], ckaId: "" };
    const refusal = async (...urls: Promise<URL>[]): Promise<string> =>
      requireLeft(kek, await Promise.all(urls)).then((answer) => String(answer?.statement), String);
    const fine = node(others);
    expect(await refusal(fine, node(others))).toMatch(`active on none of ${String(await fine)}, http`);
    expect(await refusal()).toBe("undefined");
    expect(await refusal(node(others), node())).toMatch(/a is active there/);
    expect(await refusal(node({ ...others, publishedKeyId: "alias" }))).toMatch(/alias is active there/);
    expect(await refusal(node({ ...others, dueKeyId: "a" }))).toMatch(/a is due there/);
    expect(await refusal(node({ ...others, publishedKeyId: null }))).toMatch(
      /no KEK is active there until a Status call.*nothing was destroyed/,
    );
    expect(await refusal(node(others), node(others, 60_000))).toMatch(/its clock is .*nothing was destroyed/);
    expect(
      await refusal(
        node(others),
        serve((_q, response) => response.writeHead(500).end()),
      ),
    ).toMatch(/HTTP status 500/);
  });
});

describe("nodes after a KEK was destroyed", () => {
  it("keys destroy warns of nodes that still list a destroyed KEK or do not answer", async () => {
    const asked = await node({ keys: [ACTIVE] });
    const slow = await node({});
    const away = new URL(`http://127.0.0.1:${await freePort()}/keys`);
    const after = await nodesAfterDestroy([asked, slow, away], ["s"], 0);
    expect(after.map(({ listed }) => listed)).toEqual([false, true, null]);
    const warnings = warningsAfterDestroy(after, "s");
    expect(warnings).toEqual([
      expect.stringMatching(`${slow.href} still lists s .* within 10 minutes`),
      expect.stringMatching(`${away.href}.*; whether that node still lists s is not known`),
    ]);
  });

  it("keys destroy asks nodes again until they no longer list a destroyed KEK", async () => {
    let requests = 0;
    const late = await serve((_request, response) => {
      const keys = ++requests === 1 ? [standby("s"), ACTIVE] : [ACTIVE];
      const now = new Date().toISOString();
      response.end(JSON.stringify({ now, activeKeyId: "a", publishedKeyId: "a", heldBack: null, keys }));
    });
    expect(await nodesAfterDestroy([late], ["s"])).toEqual([{ url: late.href, listed: false, error: null }]);
  });
});
