import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { expect, it } from "vitest";

import { returnUnusedMemory } from "../src/unused-memory.js";

const LIBRARY = fileURLToPath(new URL(`../dist/unused-memory-${process.arch}.node`, import.meta.url));

/** Returns the resident kB of the pages of Node's own file. */
function residentOfProgram(): number {
  const regions = readFileSync("/proc/self/smaps", "utf8").split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  return regions
    .filter((region) => region.split("\n", 1)[0]?.endsWith(process.execPath))
    .reduce((sum, region) => sum + Number(/^Rss:\s+(\d+)/m.exec(region)?.[1]), 0);
}

it("pages of the program that are not used are given back, each time", () => {
  for (let time = 0; time < 2; time++) {
    const before = residentOfProgram();
    returnUnusedMemory(LIBRARY);
    expect(residentOfProgram()).toBeLessThan(before);
    expect(Buffer.from("still works").toString("base64")).toBe("c3RpbGwgd29ya3M=");
  }
});

it("the memory stays in use if the library is missing", () => {
  returnUnusedMemory("/nonexistent/unused-memory.node");
});
