// How commands interpret nodes' answers, with fake nodes: clocks that are ahead, KEKs in use, and addresses that are not a
// plugin's.

import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";

import { afterEach, describe, expect, it } from "vitest";

import { clockDifferences, slowestBehindMs } from "../../src/admin/clocks.js";
import {
  requireLeft,
  requireUnusedNow,
  type Doubts,
  type NodesAnswer,
} from "../../src/admin/require-of-nodes.js";
import { parseNodes, readNode, type NodeKeyring } from "../../src/admin/node-client.js";
import { nodesAfterDestroy, warningsAfterDestroy } from "../../src/admin/nodes-after-destroy.js";
import { compareNodes, readNodes } from "../../src/admin/node-comparison.js";
import { checkReadiness } from "../../src/admin/readiness.js";
import { freePort } from "../support/free-port.js";
import { kekRecord } from "../support/kek-record.js";

const HOUR_MS = 3_600_000;
/** A CKA_ID of that time. */
const uuidV7 = (time: number): string =>
  `${time.toString(16).padStart(12, "0")}7${"a".repeat(3)}8${"b".repeat(15)}`;
const servers: Server[] = [];

afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

async function serve(listener: RequestListener): Promise<URL> {
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const [url] = parseNodes(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  if (url === undefined) throw new Error("no address");
  return url;
}

type Answer = Omit<NodeKeyring, "clockAheadMs" | "clockErrorMs">;

const standby = (keyId: string): Answer["keys"][number] => ({
  keyId,
  label: `label of ${keyId}`,
  state: "standby",
  activation: new Date(Date.now() + HOUR_MS).toISOString(),
  provenAt: new Date().toISOString(),
  failure: null,
  ckaId: "",
  cameLater: true,
});
const ACTIVE = { ...standby("a"), state: "active", activation: null } as const;

function node(answer: Partial<Answer> = {}, aheadMs = 0): Promise<URL> {
  return serve((_request, response) => {
    const now = new Date(Date.now() + aheadMs).toISOString();
    const rest = { activeKeyId: "a", publishedKeyId: "a", heldBack: null, keys: [standby("s"), ACTIVE] };
    response.end(JSON.stringify({ now, ...rest, ...answer }));
  });
}

describe("nodes after a KEK was destroyed", () => {
  it("are named in a warning if they still list the KEK or do not answer", async () => {
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

  it("are asked again until they no longer list the KEK", async () => {
    let requests = 0;
    const late = await serve((_request, response) => {
      const keys = ++requests === 1 ? [standby("s"), ACTIVE] : [ACTIVE];
      const now = new Date().toISOString();
      response.end(JSON.stringify({ now, activeKeyId: "a", publishedKeyId: "a", heldBack: null, keys }));
    });
    expect(await nodesAfterDestroy([late], ["s"])).toEqual([{ url: late.href, listed: false, error: null }]);
  });
});

describe("the addresses of --nodes", () => {
  it("are URLs, with or without the path", () => {
    const text = "http://127.0.0.1:8090, http://node-2:8090/keys,https://[::1]:1/behind/a/proxy";
    expect(parseNodes(text).map(String)).toEqual([
      "http://127.0.0.1:8090/keys",
      "http://node-2:8090/keys",
      "https://[::1]:1/behind/a/proxy",
    ]);
  });

  it.each(["", "127.0.0.1:8090", "ftp://a/", "http://me:secret@a/", "http://a,http://a/keys"])(
    "refuse %j",
    (text) => {
      expect(() => parseNodes(text)).toThrow(/^--nodes: /);
    },
  );
});

describe("what a node answers", () => {
  it("is shown on one line, with control characters escaped", async () => {
    const hostile = "\u001b]0;x\u0007\nall nodes agree";
    const url = await node({
      activeKeyId: hostile,
      publishedKeyId: hostile,
      heldBack: hostile,
      keys: [{ ...ACTIVE, failure: hostile }],
    });
    const harmless = "\\u001b]0;x\\u0007\\u000aall nodes agree";
    const [report] = await readNodes([url]);
    expect(report).toMatchObject({ activeKeyId: harmless, problems: [harmless, `a: ${harmless}`] });
  });
});

describe("an address without a plugin", () => {
  it.each<[string, RequestListener, RegExp]>([
    ["another service", (_q, response) => response.end("<html>"), /not from a compatible plugin/],
    ["JSON of another kind", (_q, response) => response.end('{"keys":[]}'), /not from a compatible plugin/],
    ["an error", (_q, response) => response.writeHead(503).end(), /HTTP status 503/],
    [
      "a redirect",
      (_q, response) => response.writeHead(302, { location: "http://127.0.0.1:1/" }).end(),
      /redirect/,
    ],
    [
      "more than it should",
      (_q, response) => response.end(Buffer.alloc(2 << 20, 32)),
      /exceeds 1048576 bytes/,
    ],
    ["nothing", () => undefined, /no answer within 3000 ms/],
  ])("%s", async (_what, listener, reason) => {
    const url = await serve(listener);
    await expect(readNode(url)).rejects.toMatchObject({
      code: "PEER_UNREACHABLE",
      message: expect.stringMatching(reason) as string,
    });
  });

  it("nobody", async () => {
    const [report] = await readNodes(parseNodes(`http://127.0.0.1:${await freePort()}`));
    expect(report).toMatchObject({
      error: expect.stringContaining("ECONNREFUSED") as string,
      activeKeyId: null,
    });
  });
});

describe("destroying a standby KEK without a proof", () => {
  const activation = Date.now() + HOUR_MS;
  /** Made five minutes ago. */
  const kek = { keyIds: ["s", "also-s"], ckaId: uuidV7(Date.now() - 300_000) };
  const iso = (agoMs: number): string => new Date(Date.now() - agoMs).toISOString();
  const REMEMBERS = { remembersSince: iso(HOUR_MS) };
  const answerOf = async (...urls: Promise<URL>[]): Promise<NodesAnswer> =>
    requireUnusedNow(kek, activation, await Promise.all(urls));
  const refusal = (...urls: Promise<URL>[]): Promise<string> =>
    answerOf(...urls).then(({ statement }) => statement, String);
  const doubt = async (answer: Partial<Answer>, of = kek): Promise<Doubts | undefined> =>
    (await requireUnusedNow(of, activation, [await node(REMEMBERS), await node(answer)])).doubts;

  it("is allowed if no node has used it, whether or not they have seen it", async () => {
    const answer = await answerOf(node(REMEMBERS), node({ ...REMEMBERS, keys: [ACTIVE] }));
    expect(answer.statement).toMatch(/^standby, and used by none of http/);
    expect(answer.doubts).toBeUndefined();
  });

  it("is refused if the KEK is active, due or superseded on a node, or nearly due", async () => {
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
    expect(await refusal(node({}, HOUR_MS - 5_000))).toMatch(/due by its clock/);
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

  it("is refused while a node's or this machine's clock is wrong", async () => {
    expect(await refusal(node(), node({}, -60_000))).toMatch(
      /its clock is (59|60)\.\d s behind .*nothing was destroyed/,
    );
    expect(await refusal(node({}, -60_000), node({}, -60_000))).toMatch(/this machine: its clock is (59|60)/);
  });

  it("requires a proof if a node has answered under any key_id of the KEK", async () => {
    const answered = [
      { keyId: "a", statusAt: iso(1_000), encryptAt: null },
      { keyId: "also-s", statusAt: iso(90_000), encryptAt: iso(60_000) },
    ];
    const said = await doubt({ ...REMEMBERS, answered });
    expect(said?.reason).toMatch(/^http.*: its Status or Encrypt answered under it at /);
    expect(Date.now() - (said?.lastUse ?? 0)).toBeGreaterThan(50_000);
    expect(Date.now() - (said?.lastUse ?? 0)).toBeLessThan(70_000);
  });

  it("requires a proof if a node's memory is younger than the KEK or the ages are unknown", async () => {
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
    // The answer of an earlier release.
    expect(await doubt({})).toMatchObject({ lastUse: undefined });
  });
});

describe("a check of the nodes", () => {
  it("reports which nodes are ready, use the KEK already, or lack it and why", async () => {
    const failing = { ...standby("s"), failure: "it is broken" };
    const unproven = { ...standby("s"), provenAt: null };
    const other = { ...standby("s"), keyId: "impostor" };
    const urls = await Promise.all([
      node(),
      node({ publishedKeyId: "s" }),
      node({ keys: [ACTIVE] }),
      node({ keys: [failing] }),
      node({ keys: [unproven] }),
      node({ keys: [other] }),
      node({ keys: [{ ...standby("s"), label: "other" }] }),
    ]);
    const readiness = await checkReadiness(kekRecord("label of s", "s"), [], urls);
    expect(readiness.map(({ state, detail }) => `${state}: ${detail}`)).toEqual([
      expect.stringMatching(/^ready: has proven it/),
      "active: uses it already",
      "missing: has not seen it",
      "failing: its self-test failed: it is broken",
      "missing: sees it, and has not proven it yet",
      "failing: has another key under its label, impostor; it is not a clone",
      'failing: has it under another label, "other"',
    ]);
  });

  it("reports how nodes differ from the majority and which clock is wrong", async () => {
    const urls = [
      await node({}, 65_000),
      await node(),
      await node({ publishedKeyId: "s", activeKeyId: "s", heldBack: "held back: why" }),
    ];
    expect(compareNodes(await readNodes(urls), undefined)).toEqual([
      `${String(urls[2])}: held back: why`,
      `${String(urls[2])} has s active, ${String(urls[0])} a`,
      expect.stringMatching(`${String(urls[0])}: its clock is 6\\d\\.\\d s ahead of`),
    ]);
  });

  it("shows the published KEK and explains what a due KEK waits for", async () => {
    const due = { ...standby("s"), state: "due" } as const;
    const earlierRelease = { activeKeyId: "s" };
    const waiting = [
      await node({ dueKeyId: "s", keys: [due, ACTIVE] }),
      await node({
        ...earlierRelease,
        keys: [
          { ...due, state: "active" },
          { ...ACTIVE, state: "retired" },
        ],
      }),
      await node({ publishedKeyId: null, activeKeyId: null, dueKeyId: "s", keys: [due] }),
    ];
    const after = { ...ACTIVE, keyId: "s" };
    const switched = await node({
      publishedKeyId: "s",
      activeKeyId: "s",
      keys: [after, { ...ACTIVE, state: "retired" }],
    });
    const reports = await readNodes([...waiting, switched]);
    expect(reports).toMatchObject([
      { activeKeyId: "a", dueKeyId: "s" },
      { activeKeyId: "a", dueKeyId: "s" },
      { activeKeyId: null, dueKeyId: "s" },
      { activeKeyId: "s", dueKeyId: null },
    ]);
    const remedy = /: s is due and waits for a Status call, .*; run 'kms-pkcs11 status --socket/;
    expect(compareNodes(reports, undefined)).toEqual([
      ...waiting.map((url) => expect.stringMatching(new RegExp(String(url) + remedy.source)) as string),
      expect.stringMatching("has no retired a") as string,
    ]);
    expect(compareNodes(reports.slice(0, 1), undefined)).toHaveLength(1);
  });
});

describe("the clocks of all nodes and of this machine", () => {
  const clocks = (...aheadS: number[]): string[] =>
    clockDifferences(
      aheadS.map((ahead, index) => ({ name: `n${index}`, aheadMs: ahead * 1_000, errorMs: 0 })),
    );

  it("agree if they differ by a few seconds plus the response time at most", () => {
    expect([clocks(), clocks(0), clocks(2, -2, 0)]).toEqual([[], [], []]);
    expect(clockDifferences([{ name: "slow", aheadMs: 8_000, errorMs: 6_000 }])).toEqual([]);
    expect(clockDifferences([{ name: "slow", aheadMs: 10_000, errorMs: 6_000 }])).toHaveLength(1);
  });

  it("are named if they are wrong, whichever it is", () => {
    expect(clocks(0, -4, 0)).toEqual([
      "n1: its clock is 4.0 s behind this machine's; correct the clock that is wrong",
    ]);
    expect(clocks(1_800)).toEqual([
      expect.stringMatching(/^n0: its clock is 1800\.0 s ahead of this machine's/),
    ]);
    for (const nodes of [2, 3, 4, 5]) {
      expect(clocks(...Array.from({ length: nodes }, () => -1_800))).toEqual([
        expect.stringMatching(/^this machine: its clock is 1800\.0 s ahead of that of n\d/),
      ]);
    }
  });

  it("show how far the slowest is behind", () => {
    const at = (...ahead: number[]): number =>
      slowestBehindMs(ahead.map((aheadMs) => ({ name: "n", aheadMs, errorMs: 0 })));
    expect([at(), at(5), at(-5, 3), at(-1, -9)]).toEqual([0, 0, 5, 9]);
  });
});

describe("a retired KEK", () => {
  it("may not be destroyed while a node encrypts under it or does not answer", async () => {
    const others = { activeKeyId: "b", publishedKeyId: "b" };
    const kek = { keyIds: ["a", "alias"], ckaId: "" };
    const refusal = async (...urls: Promise<URL>[]): Promise<string> =>
      requireLeft(kek, await Promise.all(urls)).then((answer) => String(answer?.statement), String);
    const fine = node(others);
    expect(await refusal(fine, node(others))).toMatch(`active on none of ${String(await fine)}, http`);
    expect(await refusal()).toBe("undefined");
    expect(await refusal(node(others), node())).toMatch(/a is active there/);
    expect(await refusal(node({ ...others, publishedKeyId: "alias" }))).toMatch(/alias is active there/);
    expect(await refusal(node({ ...others, dueKeyId: "a" }))).toMatch(/a is due there/);
    expect(await refusal(node({ ...others, publishedKeyId: null }))).toMatch(
      /no KEK is active there before a Status call.*nothing was destroyed/,
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
