// Compares the answers of several nodes: with the rollout of a KEK, with each other, and their clocks.

import { afterEach, describe, expect, it } from "vitest";

import { compareNodes, readNodes } from "../../src/admin/node-comparison.js";
import { checkReadiness } from "../../src/admin/readiness.js";
import { ACTIVE, FakeNodes, standby } from "../support/fake-nodes.js";
import { kekRecord } from "../support/kek-record.js";

const nodes = new FakeNodes();
const node: FakeNodes["node"] = (...args) => nodes.node(...args);

afterEach(() => {
  nodes.close();
});

describe("a check of the nodes", () => {
  it("a check reports which nodes are ready for a KEK, use it, or lack it and why", async () => {
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
      "missing: has not seen it yet",
      "failing: its self-test failed: it is broken",
      "missing: sees it, and has not proven it yet",
      "failing: has another key under its label, impostor; it is not a clone",
      'failing: has it under another label, "other"',
    ]);
  });

  it("a check of the nodes reports how nodes differ from the majority and which clock is wrong", async () => {
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

  it("a check of the nodes shows the published KEK and explains what a due KEK waits for", async () => {
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
