// Which cluster owns a KEK: copies of one value have one key_id, whatever their labels and tokens.

import { expect, it } from "vitest";

import { KekOwners } from "../../../src/hsm/shared/kek-owners.js";
import type { KekRecord } from "../../../src/hsm/port.js";

const kek = (keyId: string, aliases: readonly string[] = []): KekRecord => ({
  keyId,
  aliases,
  label: "kek",
  ckaId: "",
  kind: "aes",
  unprotected: [],
  remarks: [],
});

const TOKEN = "a token";

it("a KEK belongs to the first cluster that shows it, and the other gets a finding", () => {
  const owners = new KekOwners();
  expect(owners.claim("a", TOKEN, [kek("1"), kek("2")])).toEqual({
    records: [kek("1"), kek("2")],
    finding: undefined,
  });
  const other = owners.claim("b", TOKEN, [kek("2"), kek("3")]);
  expect(other.records).toEqual([kek("3")]);
  expect(other.finding).toContain("2 is the KEK of cluster a too");
  expect(owners.claim("a", TOKEN, [kek("2")]).records).toEqual([kek("2")]);
});

it("a KEK goes to the cluster that its label names once no token shows it as the first one's", () => {
  const owners = new KekOwners();
  owners.claim("a", TOKEN, [kek("1")]);
  owners.claim("a", "another token", [kek("1")]);
  owners.claim("a", TOKEN, []);
  expect(owners.claim("b", TOKEN, [kek("1")]).records).toEqual([]);
  owners.claim("a", "another token", []);
  expect(owners.isForeign("b", "1")).toBe(false);
  expect(owners.claim("b", TOKEN, [kek("1")])).toEqual({ records: [kek("1")], finding: undefined });
  expect(owners.claim("a", TOKEN, [kek("1")]).finding).toContain("1 is the KEK of cluster b too");
});

it("a KEK is recognised by any of its key_ids, and is free once its cluster is removed", () => {
  const owners = new KekOwners();
  owners.claim("a", TOKEN, [kek("1", ["alias"])]);
  expect(owners.claim("b", TOKEN, [kek("alias")]).records).toEqual([]);
  owners.release("a");
  owners.keepOnly(new Set(["b"]));
  expect(owners.claim("b", TOKEN, [kek("alias")]).records).toEqual([kek("alias")]);
});

it("a KEK stays with the cluster that used it until all its tokens are read without it", () => {
  const owners = new KekOwners();
  owners.reserve("a", ["1"], 2);
  owners.reserve("b", [], 1);
  expect(owners.claim("b", TOKEN, [kek("1")]).finding).toContain("1 is the KEK of cluster a too");
  owners.claim("a", TOKEN, []);
  expect(owners.claim("b", TOKEN, [kek("1")]).records).toEqual([]);
  owners.claim("a", "another token", []);
  expect(owners.claim("b", TOKEN, [kek("1")]).records).toEqual([kek("1")]);
});

it("a KEK of two clusters that both used it goes to the first one that shows it", () => {
  const owners = new KekOwners();
  for (const name of ["a", "b"]) owners.reserve(name, ["1"], 1);
  expect(owners.claim("b", TOKEN, [kek("1")]).records).toEqual([kek("1")]);
  expect(owners.claim("a", TOKEN, [kek("1")]).records).toEqual([]);
});

it("a cluster that is opened again keeps its KEK although another shows it meanwhile", () => {
  const owners = new KekOwners();
  owners.claim("a", TOKEN, [kek("1")]);
  owners.release("a");
  expect(owners.claim("b", TOKEN, [kek("1")]).records).toEqual([]);
  owners.reserve("a", [], 1);
  expect(owners.claim("a", TOKEN, [kek("1")]).records).toEqual([kek("1")]);
});
