// Gives a run a temporary folder of its own. Whatever the tests and the processes they start leave in it is removed after
// the run, or before the next one if the run is killed. The name is short: the path of a Unix socket has at most 107 bytes.

import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { removeLeftFolders } from "../support/left-folders.js";

const NAME = "kms-tests.";

/** Makes the folder and names it in TMPDIR, which the tests inherit. Returns the function that removes it. */
export function setup(): () => void {
  removeLeftFolders(NAME);
  const folder = join(tmpdir(), NAME + String(process.pid));
  mkdirSync(folder);
  // As /tmp: some tests start processes as another user.
  chmodSync(folder, 0o1777);
  process.env["TMPDIR"] = folder;
  return () => {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  };
}
