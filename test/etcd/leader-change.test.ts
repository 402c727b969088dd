// Reads while an etcd of three members elects a leader.
import { afterAll, beforeAll, expect, it } from "vitest";
import { EtcdClient } from "../../src/etcd/client.js";
import { EtcdMembers } from "../support/etcd-members.js";

let members: EtcdMembers;

beforeAll(async () => {
  members = await EtcdMembers.start();
});
afterAll(async () => {
  await members.remove();
});

it("a read from one member that begins without a leader is answered after the election", async () => {
  await members.put("/registry/a", "a value");
  const { others } = await members.freezeLeader();
  // With a second one, the client would just ask that.
  const client = new EtcdClient({ endpoints: others.slice(0, 1) });
  try {
    expect(await client.range({ key: Buffer.from("/registry/a"), limit: 1 })).toMatchObject({ count: 1 });
  } finally {
    client.close();
  }
});
