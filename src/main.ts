#!/usr/bin/env node
// The entry point of the command `kms-pkcs11`: hardens the process before it loads anything else.
import { discardEarlyHost, spawnEarlyHost } from "./early-host.js";
import { limitGarbage, limitYoungGarbage, useCompileCache } from "./engine.js";
import { fileLimitIn, fileLimitTooLow } from "./file-limit.js";
import { hardenProcess } from "./hardening.js";
import { returnUnusedMemoryRegularly } from "./unused-memory.js";

/** As in package.json. */
const OLDEST_NODE = 22;

if (Number.parseInt(process.versions.node) < OLDEST_NODE) {
  const found = `${process.version} (${process.execPath})`;
  process.stderr.write(`kms-pkcs11: Node.js ${OLDEST_NODE} or newer is needed; this is ${found}\n`);
  process.exit(2);
}
hardenProcess();
const tooLow = fileLimitTooLow();
if (tooLow === undefined) await runProgram();
else fail(tooLow);

async function runProgram(): Promise<void> {
  // Other commands end soon, and those that read much data are slower with these limits.
  if (process.argv[2] === "serve") {
    if (!process.argv.some((arg) => arg === "--help" || arg === "-h")) spawnEarlyHost(process.argv.slice(3));
    limitYoungGarbage();
    returnUnusedMemoryRegularly();
  }
  limitGarbage();
  useCompileCache();
  try {
    const { run, reportUncaught } = await import("./cli/program.js");
    process.on("uncaughtException", (error) => reportUncaught(error, process.argv));
    await run(process.argv);
    // Nothing has taken it if the command has failed.
    discardEarlyHost();
  } catch (error) {
    discardEarlyHost();
    // The system's own limit may be reached, to which other processes' files count too.
    const limit = fileLimitIn(error);
    if (limit === undefined) throw error;
    fail(limit);
  }
}

function fail(problem: string): void {
  process.stderr.write(`kms-pkcs11: ${problem}\n`);
  process.exitCode = 3;
}
