// The reference plugin of the comparison as a process: Kubernetes' own KMS v2 service around one call into the HSM.

import { spawn, type ChildProcess } from "node:child_process";
import { statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import type { TestToken } from "../support/token.js";
import { waitFor } from "../support/wait.js";

/** Where scripts/bench builds the programs in Go. */
export const BUILD = fileURLToPath(new URL("../../build/bench", import.meta.url));

export class ReferencePlugin {
  readonly socket: string;
  readonly #child: ChildProcess;

  /** @param label the key's label, which may be that of our KEK */
  constructor(token: TestToken, label: string, socket: string) {
    this.socket = socket;
    const flags = { socket, module: token.modulePath, token: token.label, "pin-file": token.pinFile, label };
    const args = Object.entries(flags).map(([name, value]) => `--${name}=${value}`);
    const env = { ...process.env, ...token.env };
    this.#child = spawn(join(BUILD, "plugin"), args, { env, stdio: ["ignore", "ignore", "inherit"] });
  }

  async ready(): Promise<void> {
    await waitFor(() => statSync(this.socket, { throwIfNoEntry: false })?.isSocket() ?? false, {
      what: "the reference plugin's socket",
      timeoutMs: 20_000,
    });
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGTERM");
    await ended;
  }
}
