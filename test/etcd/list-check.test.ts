// A list of a resource through the API: every page is read, and a page that fails is the reason.

import { afterEach, expect, it } from "vitest";

import type { KubeApi } from "../../src/etcd/kube-api.js";
import { listAll } from "../../src/etcd/list-check.js";
import { StandInApi, type Answer } from "./stand-in-api.js";

const PATH = "/api/v1/secrets";
const FIRST = { metadata: { continue: "a/b" }, items: [{}, {}] };

let standIn: StandInApi;
let api: KubeApi;

afterEach(async () => {
  api.close();
  await standIn.close();
});

async function listed(second: Answer): Promise<Awaited<ReturnType<typeof listAll>>> {
  standIn = new StandInApi(({ path }) =>
    path === `${PATH}?limit=500&continue=a%2Fb` ? second : { status: 200, body: FIRST },
  );
  api = await standIn.connect();
  return listAll(api, PATH);
}

it("the objects of every page are counted", async () => {
  expect(await listed({ status: 200, body: { metadata: { continue: "" }, items: [{}] } })).toEqual({
    objects: 3,
  });
});

it("a page that fails is the reason why a list fails", async () => {
  const body = { kind: "Status", message: "corrupt object" };
  expect(await listed({ status: 500, body })).toEqual({ reason: "500 corrupt object", isFinal: false });
});
