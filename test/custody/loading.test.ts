// Without a sealed PIN in the configuration, the plugin loads none of this code: no module that it loads at its start
// imports it.

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { expect, it } from "vitest";

import { MAIN } from "../support/plugin-process.js";

function loadedFrom(file: string, seen = new Set<string>()): Set<string> {
  if (seen.has(file)) return seen;
  seen.add(file);
  for (const [, path = ""] of readFileSync(file, "utf8").matchAll(/^import [^;]*?"(\.[^"]+)";/gms)) {
    loadedFrom(join(dirname(file), path), seen);
  }
  return seen;
}

it("nothing that the plugin imports at its start imports custody", () => {
  const loaded = [...loadedFrom(join(dirname(MAIN), "compose/plugin.js"))];
  expect(loaded.some((file) => file.endsWith("compose/unlock-socket.js"))).toBe(true);
  expect(loaded.filter((file) => file.includes("/custody/") || file.includes("share-unlock"))).toEqual([]);
});
