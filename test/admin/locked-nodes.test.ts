// Whether nodes hold a PIN, by what their plugins answer at /readyz: one that serves a single cluster, and one of several.

import { afterAll, beforeAll, expect, it } from "vitest";

import { nodesWithPin } from "../../src/admin/locked-nodes.js";
import {
  startHttp,
  type HttpClusters,
  type HttpContent,
  type RunningHttp,
} from "../../src/observability/http.js";

const LOCKED = "locked by an operator at 2026-12-01T10:00:00.000Z; run kms-pkcs11 unlock --share";
const NO_PIN = "no PIN is held; run kms-pkcs11 unlock --share";

const opened: RunningHttp[] = [];
let several: URL;

beforeAll(async () => {
  const clusters = new Map([
    ["locked", contentOf(LOCKED)],
    ["unlocked", contentOf("ok")],
  ]);
  const all = contentOf(`locked: ${LOCKED}`, `idle: ${NO_PIN}`);
  several = await serve(all, { names: () => [...clusters.keys()], content: (name) => clusters.get(name) });
});

afterAll(() => Promise.all(opened.map((http) => http.stop())));

async function serve(content: HttpContent, clusters?: HttpClusters): Promise<URL> {
  const http = await startHttp({ host: "127.0.0.1", port: 0 }, content, clusters);
  opened.push(http);
  return new URL(`http://127.0.0.1:${http.address.port}/keys`);
}

function contentOf(...lines: string[]): HttpContent {
  return {
    readiness: () => ({ ready: lines.includes("ok"), lines }),
    metrics: () => Promise.resolve(""),
    metricsType: "text/plain",
  };
}

it("a locked plugin, and one that was not unlocked since its start, hold no PIN", async () => {
  expect(await nodesWithPin([await serve(contentOf(LOCKED)), await serve(contentOf(NO_PIN))])).toEqual([]);
});

it("a plugin that is ready may hold a PIN", async () => {
  const node = await serve(contentOf("ok"));
  expect(await nodesWithPin([node])).toEqual([
    `${node.href} is not locked: run kms-pkcs11 lock on that node`,
  ]);
});

it("of several clusters, the one that the node's address names counts", async () => {
  const nodes = ["locked", "unlocked"].map((name) => new URL(`?cluster=${name}`, several));
  expect(await nodesWithPin(nodes)).toEqual([
    `${nodes[1]?.href ?? ""} is not locked: run kms-pkcs11 lock on that node`,
  ]);
});
