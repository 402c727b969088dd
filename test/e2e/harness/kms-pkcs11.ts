// Runs a command of the built plugin to its end: `keys create`, `check`, `etcd usage` and the like.

import { spawn } from "node:child_process";

import { MAIN, type CommandResult } from "../../support/plugin-process.js";

/** A limit for a command that hangs, not a measure of speed. */
const LIMIT_MS = 150_000;

/** Runs `kms-pkcs11 ...args`; any exit code is a result. Kills the command after timeoutMs. */
export function kmsPkcs11(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  timeoutMs = LIMIT_MS,
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [MAIN, ...args], {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
      timeout: timeoutMs,
      killSignal: "SIGKILL",
    });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.once("error", reject);
    child.once("close", (code) => {
      resolve({ code, stdout, stderr });
    });
  });
}

/** Runs `kms-pkcs11 ...args` and returns stdout. Throws with the command's output for an exit code other than 0. */
export async function kmsPkcs11Ok(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  const { code, stdout, stderr } = await kmsPkcs11(args, env);
  if (code !== 0) {
    throw new Error(`kms-pkcs11 ${args.join(" ")}: exit code ${String(code)}\n${stdout}${stderr}`);
  }
  return stdout;
}
