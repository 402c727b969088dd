// Loaded into a command with --import: kills the process before its N-th change of a file (KILL_AT_CHANGE), as a loss of
// power would.

import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";

const at = Number(process.env["KILL_AT_CHANGE"]);
let changes = 0;

function counted(change) {
  return (...args) => {
    changes++;
    if (changes === at) process.kill(process.pid, "SIGKILL");
    return change(...args);
  };
}

for (const name of ["writeFileSync", "renameSync", "fsyncSync", "linkSync", "mkdirSync"]) {
  fs[name] = counted(fs[name]);
}
const { openSync } = fs;
const creating = counted(openSync);
fs.openSync = (path, flags, ...more) => (flags === "wx" ? creating : openSync)(path, flags, ...more);
syncBuiltinESMExports();
