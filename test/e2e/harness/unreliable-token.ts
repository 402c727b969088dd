// A SoftHSM token behind the fault-injecting module of test/support, so that it can go away and come back
// for processes that have it open, as a network HSM does.

import { copyFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildFaultModule } from "../../support/fault-module.js";
import type { HsmToken } from "./hsm-token.js";
import { newFolder } from "./run.js";
import { SoftHsmToken } from "./softhsm-token.js";

export class UnreliableToken implements HsmToken {
  readonly env: Readonly<Record<string, string>>;
  readonly #module: string;
  readonly #behind: SoftHsmToken;

  private constructor(behind: SoftHsmToken, module: string) {
    this.#behind = behind;
    this.#module = module;
    this.env = behind.env;
  }

  static async create(): Promise<UnreliableToken> {
    const behind = await SoftHsmToken.create();
    const module = join(await newFolder("fault"), "fault-module.so");
    copyFileSync(buildFaultModule(), module);
    const token = new UnreliableToken(behind, module);
    token.#rule();
    return token;
  }

  uri(object?: string): string {
    return this.#behind.uri(object, this.#module);
  }

  /** Every call fails with CKR_DEVICE_ERROR, as when the server of a network HSM died. */
  goAway(): void {
    this.#rule("device-error");
  }

  /** From now on a newly initialised library finds the token again; one that was open does not. */
  comeBack(): void {
    this.#rule();
  }

  #rule(...lines: string[]): void {
    const control = `${this.#module}.control`;
    writeFileSync(`${control}.new`, [`target ${this.#behind.module}`, ...lines, ""].join("\n"));
    renameSync(`${control}.new`, control);
  }
}
