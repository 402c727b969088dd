// A command of the built program on a token, however slow the token is: vitest loses a worker that a synchronous call blocks
// for a minute.

import { kmsPkcs11 } from "../e2e/harness/kms-pkcs11.js";
import { checkJsonOutput } from "../support/output-schema.js";
import type { CommandResult } from "../support/plugin-process.js";

/** Runs a command to its end, and compares its JSON with the schema that is published for it. */
export async function checkedCommand(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<CommandResult> {
  const result = await kmsPkcs11(args, env);
  checkJsonOutput(args, result);
  return result;
}
