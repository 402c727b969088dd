// `keys destroy` with etcd as proof: a KEK that protects an object stays.

import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { makeFolder } from "../../support/token.js";
import { byWord, useFourKeks } from "./four-keks.js";

const folder = makeFolder("disuse");
const keks = useFourKeks();

describe("keys destroy with a proof from etcd", () => {
  it("'keys destroy' keeps a KEK that an object is under, whatever options are given", async () => {
    const report = join(folder, "used.json");
    expect((await keks.usage(report)).code).toBe(0);
    for (const proof of [keks.live(), ["--usage-report", report]]) {
      const { code, stderr } = await keks.destroy(keks.settled, ...proof, ...byWord(keks.settled));
      expect([code, stderr]).toEqual([1, expect.stringContaining("1 objects are under it (secrets)")]);
    }
  });

  it("'keys destroy' keeps a KEK that API servers may still use, and a standby KEK", async () => {
    const early = await keks.destroy(keks.fresh, ...keks.live(), ...byWord(keks.fresh));
    expect(early.stderr).toMatch(
      /until \S+Z, API servers may still encrypt under the KEK; repeat the command/,
    );
    expect((await keks.destroy(keks.standby, ...keks.live())).stderr).toContain(
      "name every node with --nodes",
    );
    expect((await keks.destroy(keks.fresh)).stderr).toContain("give --usage-report or --endpoints");
  });
});
