#!/usr/bin/env node
// The entry of the command `kms-pkcs11`.
import { fileLimitIn } from "./errors.js";
import { hardenProcess } from "./hardening.js";

hardenProcess();
try {
  const { run } = await import("./cli/program.js");
  await run(process.argv);
} catch (error) {
  // Not even the program could be loaded.
  const limit = fileLimitIn(error);
  if (limit === undefined) throw error;
  process.stderr.write(`kms-pkcs11: ${limit}\n`);
  process.exitCode = 3;
}
