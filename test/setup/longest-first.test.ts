// A file that was moved or split would start in its default position, unnoticed.

import { existsSync } from "node:fs";

import { expect, it } from "vitest";

import { LONGEST } from "./longest-first.js";

it("every test file that is listed to start first exists", () => {
  const listed = Object.values(LONGEST).flat();
  expect(listed.filter((name) => !existsSync(name))).toEqual([]);
});
