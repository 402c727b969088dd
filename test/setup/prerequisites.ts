// Runs once per run, before any test, and checks what all tests depend on. Tests start the token host and the command
// line from dist/, as users do, so dist/ must exist and match src/. A missing prerequisite is an error, never a skip.

import { execFileSync } from "node:child_process";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const BUILT = "dist/token-host/main.js";

/** Checks the prerequisites. Throws with the command that provides a missing one. */
export function setup(): void {
  requireSoftHsm();
  requireBuild();
}

function requireSoftHsm(): void {
  try {
    execFileSync("softhsm2-util", ["--version"], { stdio: "ignore" });
  } catch (error) {
    throw new Error("the tests need SoftHSM 2: apt-get install softhsm2, or run scripts/test", {
      cause: error,
    });
  }
}

function requireBuild(): void {
  const builtAtMs = changedAtMs(BUILT);
  if (builtAtMs === undefined) throw new Error(`${BUILT} is missing: npm run build, or run scripts/test`);
  const newer = [
    "src",
    ...readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" }).map(underSrc),
  ]
    .filter((path) => (changedAtMs(path) ?? 0) > builtAtMs)
    .sort();
  if (newer.length === 0) return;
  const message = `dist/ is older than ${newer.slice(0, 3).join(", ")}: npm run build, or run scripts/test`;
  // During development a test of one file need not wait for a build of all files.
  if (process.env["CI"] !== undefined) throw new Error(message);
  process.stderr.write(`warning: ${message}\n`);
}

function underSrc(path: string): string {
  return join("src", path);
}

function changedAtMs(path: string): number | undefined {
  return statSync(join(ROOT, path), { throwIfNoEntry: false })?.mtimeMs;
}
