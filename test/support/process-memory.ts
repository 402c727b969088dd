// Looks for bytes in the memory of processes, as root may: every readable and writable region of /proc/PID/mem.

import { closeSync, openSync, readFileSync, readSync } from "node:fs";

const CHUNK = 1 << 22;

/** Returns how often `bytes` occurs in the writable memory of a process; 0 if the process has ended. */
export function occurrences(pid: number, bytes: Buffer): number {
  let maps: string;
  try {
    maps = readFileSync(`/proc/${pid}/maps`, "utf8");
  } catch {
    return 0;
  }
  const memory = openSync(`/proc/${pid}/mem`, "r");
  try {
    const regions = [...maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) rw/gm)];
    return regions.reduce(
      (sum, [, from, to]) => sum + inRegion(memory, Number(`0x${from}`), Number(`0x${to}`), bytes),
      0,
    );
  } finally {
    closeSync(memory);
  }
}

function inRegion(memory: number, from: number, to: number, bytes: Buffer): number {
  const chunk = Buffer.alloc(CHUNK);
  let found = 0;
  for (let at = from; at < to; at += CHUNK - bytes.length + 1) {
    let length: number;
    try {
      length = readSync(memory, chunk, 0, Math.min(CHUNK, to - at), at);
    } catch {
      return found;
    }
    for (let hit = chunk.indexOf(bytes); hit >= 0 && hit + bytes.length <= length;) {
      found++;
      hit = chunk.indexOf(bytes, hit + 1);
    }
  }
  return found;
}
