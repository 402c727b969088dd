// Making the API server rewrite an object: the outcome of each answer, and that a concurrent write is never
// overwritten.

import { afterEach, describe, expect, it } from "vitest";

import { rewrite, type Recheck, type Rewriting } from "../../src/etcd/rewrite.js";
import { StandInApi, type Answer } from "./stand-in-api.js";

let standIn: StandInApi;

afterEach(async () => {
  await standIn.close();
});

const at = (resourceVersion: number): Answer => ({
  status: 200,
  body: {
    kind: "PartialObjectMetadata",
    metadata: { name: "s", resourceVersion: String(resourceVersion), annotations: { resourceVersion: "1" } },
  },
});
const conflict: Answer = { status: 409, body: { reason: "Conflict" } };

/** Rewrites an object of revision 7 with an API that gives these answers and repeats the last one. */
async function against(answers: readonly Answer[], recheck?: Recheck): Promise<Rewriting> {
  standIn = new StandInApi(() => answers[Math.min(standIn.asked.length, answers.length) - 1] ?? at(0));
  const api = await standIn.connect();
  const unasked: Recheck = () => Promise.reject(new Error("nothing to check again"));
  try {
    return await rewrite(api, "/api/v1/namespaces/n/secrets/s", 7, recheck ?? unasked);
  } finally {
    api.close();
  }
}

const revisions = (): unknown[] =>
  standIn.asked.map(
    ({ body }) => (body as { metadata: { resourceVersion: string } }).metadata.resourceVersion,
  );

describe("rewriting an object", () => {
  it("a rewrite sends an empty patch at the revision in etcd and requests metadata only", async () => {
    expect(await against([at(8)])).toEqual({ kind: "rewritten" });
    expect(standIn.asked).toMatchObject([
      {
        method: "PATCH",
        path: "/api/v1/namespaces/n/secrets/s?fieldManager=kms-pkcs11",
        headers: {
          authorization: "Bearer a-token",
          accept: expect.stringContaining("PartialObjectMetadata") as string,
        },
        body: { metadata: { resourceVersion: "7" } },
      },
    ]);
  });

  it.each<[string, Answer, Rewriting]>([
    ["nothing stale", at(7), { kind: "unchanged" }],
    ["no object", { status: 404 }, { kind: "gone" }],
    ["a refusal", { status: 403, body: { message: "no" } }, { kind: "failed", reason: "403 no" }],
    [
      "an invalid object, whose values it repeats",
      {
        status: 422,
        body: { message: "a-value", details: { causes: [{ field: "data[k]", message: "a-value" }] } },
      },
      { kind: "failed", reason: "422 invalid: data[k]" },
    ],
  ])("a rewrite reports the outcome for an answer with %s", async (_what, answer, outcome) => {
    expect(await against([answer])).toEqual(outcome);
  });

  it("a rewrite keeps another writer's change, and is retried only for a stale object", async () => {
    const states = [
      { modRevision: 9, stale: true },
      { modRevision: 12, stale: false },
    ];
    const recheck: Recheck = () => Promise.resolve(states.shift());
    expect(await against([conflict], recheck)).toEqual({ kind: "overtaken" });
    expect(revisions()).toEqual(["7", "9"]);
  });

  it("a rewrite ends if the object is deleted after a conflict", async () => {
    expect(await against([conflict], () => Promise.resolve(undefined))).toEqual({ kind: "gone" });
  });

  it("a rewrite fails if others keep writing the object under another key", async () => {
    const recheck: Recheck = () => Promise.resolve({ modRevision: 9, stale: true });
    expect(await against([conflict], recheck)).toMatchObject({ kind: "failed" });
  });

  it("a rewrite retries after an overload, and with fresh credentials after a 401", async () => {
    expect(await against([{ status: 429 }, { status: 401 }, { status: 500 }, at(8)])).toEqual({
      kind: "rewritten",
    });
    expect(revisions()).toEqual(["7", "7", "7", "7"]);
  });
});
