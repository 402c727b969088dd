// Processes with a wrong clock, by libfaketime: it changes the time of day, not the clock of timers.

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

const FOLDERS = [
  ...readdirSync("/usr/lib").map((machine) => join("/usr/lib", machine, "faketime")),
  "/usr/lib64/faketime",
];

/** Returns the environment of a process whose clock differs by an offset such as `+30m`. */
export function clockOff(offset: string): Record<string, string> {
  const library = FOLDERS.map((folder) => join(folder, "libfaketimeMT.so.1")).find(existsSync);
  if (library === undefined) throw new Error("libfaketime is missing: apt-get install faketime");
  return { LD_PRELOAD: library, FAKETIME: offset, FAKETIME_DONT_FAKE_MONOTONIC: "1" };
}
