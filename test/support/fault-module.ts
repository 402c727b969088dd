// The fault module, built from its folder, and an instance of it in front of a token: its control file, its counts and
// its log. Each instance is a copy of the shared object in its own folder and reads the control file there, so that
// several instances need no environment variable to distinguish them.

import { execFileSync } from "node:child_process";
import { copyFileSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { makeFolder, type TestToken } from "./token.js";

const SOURCES = fileURLToPath(new URL("fault-module", import.meta.url));
const BUILD = fileURLToPath(new URL("../../build/fault-module", import.meta.url));
const COUNTER_BYTES = 40; // 32 bytes of name, 8 of count, little-endian

/** One call, as `log FUNCTION` records it when the call returns. */
export interface LoggedCall {
  readonly name: string;
  readonly rv: number;
  readonly pid: number;
  readonly tid: number;
  /** When it began, in ms since the epoch. */
  readonly at: number;
  readonly ms: number;
}

let isBuilt = false;

/** Builds the module if its sources are newer, once per process; returns the shared object's path. */
export function buildFaultModule(): string {
  if (!isBuilt) make();
  isBuilt = true;
  return join(BUILD, "fault-module.so");
}

function make(): void {
  try {
    execFileSync("make", ["--silent", "-C", SOURCES, `BUILD=${BUILD}`], {
      stdio: ["ignore", "ignore", "pipe"],
    });
  } catch (error) {
    const { code, stderr } = error as { code?: string; stderr?: Buffer };
    const reason = code === "ENOENT" ? "make is missing: apt-get install make gcc" : String(stderr);
    throw new Error(`cannot build the fault module: ${reason}`, { cause: error });
  }
}

/** A token with the fault module in front of it, itself a token like any other. */
export class FaultModule implements TestToken {
  readonly folder = makeFolder("fault");
  readonly modulePath = join(this.folder, "fault-module.so");
  readonly moduleParameters?: string;
  readonly label: string;
  readonly pin: string;
  readonly pinFile: string;
  readonly env: Readonly<Record<string, string>>;
  readonly #target: string;

  constructor(behind: TestToken) {
    copyFileSync(buildFaultModule(), this.modulePath);
    if (behind.moduleParameters !== undefined) this.moduleParameters = behind.moduleParameters;
    this.label = behind.label;
    this.pin = behind.pin;
    this.pinFile = behind.pinFile;
    this.env = behind.env;
    this.#target = behind.modulePath;
    this.clear();
  }

  /** Replaces the rules from the next call on, in every process, and resets all counters of rules. */
  set(...lines: readonly string[]): void {
    const always = [`target ${this.#target}`, `count-file ${this.#path("counts")}`];
    const draft = this.#path("control.draft");
    writeFileSync(draft, [...always, ...lines, ""].join("\n"));
    renameSync(draft, this.#path("control"));
  }

  clear(): void {
    this.set();
  }

  /** Returns how often a function, or any function, was called since this instance was made, over all processes. */
  calls(name?: string): number {
    const counters = this.#read("counts");
    let calls = 0;
    for (let at = 0; at + COUNTER_BYTES <= counters.length; at += COUNTER_BYTES) {
      const counted = counters.toString("latin1", at, counters.indexOf(0, at));
      if (name === undefined || counted === name) calls += Number(counters.readBigUInt64LE(at + 32));
    }
    return calls;
  }

  /** Returns the calls recorded so far for `log FUNCTION` lines, in the order in which they returned. */
  log(): LoggedCall[] {
    const lines = this.#read("log").toString().split("\n").filter(Boolean);
    return lines.map((line) => {
      const [name = "", ...pairs] = line.split(" ");
      const value = new Map(pairs.map((pair) => pair.split("=") as [string, string]));
      const number = (key: string): number => Number(value.get(key));
      return {
        name,
        rv: number("rv"),
        pid: number("pid"),
        tid: number("tid"),
        at: number("at"),
        ms: number("ms"),
      };
    });
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Returns a path in this instance's folder, for `once=` and `pin-counter`. */
  path(name: string): string {
    return join(this.folder, name);
  }

  #path(suffix: string): string {
    return `${this.modulePath}.${suffix}`;
  }

  #read(suffix: string): Buffer {
    try {
      return readFileSync(this.#path(suffix));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return Buffer.alloc(0);
      throw error;
    }
  }
}
