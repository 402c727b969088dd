#!/usr/bin/env node
// The entry point of the command `kms-pkcs11`: hardens the process before it loads anything else.
import { limitGarbage, limitYoungGarbage, useCompileCache } from "./engine.js";
import { fileLimitIn } from "./errors.js";
import { hardenProcess } from "./hardening.js";

hardenProcess();
// A short command is faster without.
if (process.argv[2] === "serve") limitYoungGarbage();
limitGarbage();
useCompileCache();
try {
  const { run } = await import("./cli/program.js");
  await run(process.argv);
} catch (error) {
  // The process may open too few files even to load the program.
  const limit = fileLimitIn(error);
  if (limit === undefined) throw error;
  process.stderr.write(`kms-pkcs11: ${limit}\n`);
  process.exitCode = 3;
}
