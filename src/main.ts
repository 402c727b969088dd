#!/usr/bin/env node
// The entry of the command `kms-pkcs11`.
import { run } from "./cli/program.js";

await run(process.argv);
