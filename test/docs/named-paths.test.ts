// Every path that the pages for maintainers name exists.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

import { expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const SOURCES = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" });
/** Folders that scripts create. */
const MADE = ["dist/", "build/", ".dev/"];
const PATH =
  /^[\w.*/-]*(\/|\.(ts|js|mjs|cjs|c|h|md|json|ya?ml|proto|sh|conf))$|^(scripts|src|test|deploy)\/[\w./-]+$/;

/** Returns the paths in backticks on a page; for a command, its program. */
function pathsIn(page: string): string[] {
  const spans = [...readFileSync(join(ROOT, page), "utf8").matchAll(/`([^`\n]+)`/g)];
  const words = spans.map(([, span = ""]) => span.split(" ", 1)[0] ?? "");
  return [
    ...new Set(
      words.filter(
        (word) => PATH.test(word) && !word.startsWith("/") && !MADE.some((made) => word.startsWith(made)),
      ),
    ),
  ];
}

/** Returns whether a path exists, relative to the root, to src/ or as a bare file name; `*` matches part of a name. */
function isThere(path: string): boolean {
  if (path.includes("*")) {
    const pattern = new RegExp(`^${path.replaceAll(".", "\\.").replaceAll("*", "[^/]*")}$`);
    return SOURCES.some((source) => pattern.test(source));
  }
  if (existsSync(join(ROOT, path)) || existsSync(join(ROOT, "src", path))) return true;
  return !path.includes("/") && SOURCES.some((source) => basename(source) === path);
}

it.each(["src/README.md", ".github/CONTRIBUTING.md"])("every path that %s names exists", (page) => {
  const paths = pathsIn(page);
  expect(paths.length).toBeGreaterThan(5);
  expect(paths.filter((path) => !isThere(path))).toEqual([]);
});
