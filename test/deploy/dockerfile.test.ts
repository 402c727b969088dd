// The files that the Dockerfile copies are among those that .dockerignore sends to the build.

import { existsSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";

const read = (name: string): string => readFileSync(new URL(`../../${name}`, import.meta.url), "utf8");

it("every file that the Dockerfile copies exists and is not ignored", () => {
  const sent = [...read(".dockerignore").matchAll(/^!(.+)$/gm)].map(([, path = ""]) => path);
  const copied = [...read("Dockerfile").matchAll(/^COPY (?!--from)(.+)$/gm)].flatMap(([, words = ""]) =>
    words.split(" ").slice(0, -1),
  );
  expect(copied.length).toBeGreaterThan(5);
  const isSent = (path: string): boolean => sent.some((one) => path === one || path.startsWith(`${one}/`));
  expect(copied.filter((path) => !isSent(path))).toEqual([]);
  expect(copied.filter((path) => !existsSync(new URL(`../../${path}`, import.meta.url)))).toEqual([]);
});
