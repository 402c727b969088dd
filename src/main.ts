#!/usr/bin/env node
// The entry of the command `kms-pkcs11`.
import { hardenProcess } from "./hardening.js";

hardenProcess();
const { run } = await import("./cli/program.js");
await run(process.argv);
