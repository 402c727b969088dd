// Which deletions an audit log leaves to the next run of `etcd recover --delete`: those of a run that did not come to its end.

import { truncateSync } from "node:fs";
import { stat } from "node:fs/promises";

import { expect, it } from "vitest";

import { recordedDeletions } from "../../../src/admin/recover/recorded-deletions.js";
import type { Settings } from "../../../src/config/settings.js";
import { useAuditFiles } from "../../support/audit-files.js";
import { silentOperator } from "../../support/operator.js";

const log = useAuditFiles();
const START = Date.UTC(2026, 0, 1);

interface Recorded {
  readonly key?: string;
  readonly run?: string;
  readonly end?: true;
  readonly outcome: string;
}

const begun = (key: string, run?: string): Recorded => ({
  key,
  ...(run !== undefined && { run }),
  outcome: "begun",
});
const end = (run: string, outcome = "ok"): Recorded => ({ run, end: true, outcome });

/** Records the events, a second apart. */
async function record(...events: readonly Recorded[]): Promise<void> {
  const timed = events.map(({ outcome, key, ...details }, at) => ({
    time: START + at * 1_000,
    event: {
      event: "operator" as const,
      operation: "etcd recover",
      outcome,
      details: { ...details, ...(key !== undefined && { key: `/registry/${key}`, modRevision: 7 }) },
      operator: {},
    },
  }));
  await log.writer().append(timed);
}

async function left(prefix = "/registry", since = START, lines: string[] = []): Promise<string[]> {
  const audit = { file: log.file, keyFile: log.keyFile };
  const settings = { audit } as unknown as Settings;
  const found = await recordedDeletions(settings, prefix, since, silentOperator(lines));
  return found.map(({ key }) => key.replace("/registry/", ""));
}

it("a run that came to its end leaves no deletion, and one that was killed or failed does", async () => {
  await record(begun("a", "1"), end("1"), begun("b", "2"), begun("c", "3"), end("3", "PEER_UNREACHABLE"));
  expect(await left()).toEqual(["b", "c"]);
});

it("deletions of an interrupted run are settled by the end of the run that reports them", async () => {
  const gone = { key: "a", run: "2", outcome: "gone" };
  await record(begun("a", "1"), gone);
  expect(await left()).toEqual(["a"]);
  await record(end("2", "list-failed"));
  expect(await left()).toEqual(["a"]);
  await record(end("2"));
  expect(await left()).toEqual([]);
});

it("the end of a run settles nothing of another one that still runs", async () => {
  const gone = { key: "a", run: "2", outcome: "gone" };
  await record(begun("a", "1"), gone, begun("b", "1"), begun("c", "2"), end("2"));
  expect(await left()).toEqual(["b"]);
});

it("deletions of a log without runs are left, until a run has reported them", async () => {
  await record(begun("a"), { key: "a", outcome: "ok" }, begun("b"), { key: "b", outcome: "ok" });
  expect(await left()).toEqual(["a", "b"]);
  await record({ key: "a", run: "1", outcome: "gone" }, end("1"));
  expect(await left()).toEqual(["b"]);
});

it("deletions under another prefix and those before the time are not left", async () => {
  await record(begun("a", "1"), begun("b", "1"));
  expect(await left("/other")).toEqual([]);
  expect(await left("/registry", START + 1_000)).toEqual(["b"]);
});

it("a run whose last line a crash cut off is an interrupted one", async () => {
  await record(begun("a", "1"));
  await record(end("1"));
  truncateSync(log.file, (await stat(log.file)).size - 10);
  const lines: string[] = [];
  expect(await left("/registry", START, lines)).toEqual(["a"]);
  expect(lines).toEqual([]);
});

it("at most 10,000 deletions are left, the latest ones", async () => {
  await record(...Array.from({ length: 10_001 }, (_, at) => begun(String(at), "1")));
  const found = await left();
  expect([found.length, found[0]]).toEqual([10_000, "1"]);
});
