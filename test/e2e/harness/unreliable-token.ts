// A SoftHSM token behind the fault module of test/support, so that it can go away and come back for processes that have
// it open, like a network HSM.

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

  /** Makes every call fail with CKR_DEVICE_ERROR, as after a crash of a network HSM's server. */
  goAway(): void {
    this.#rule("device-error");
  }

  /** Makes every call take this much longer, in ms, as over a network. */
  delay(ms: number): void {
    this.#rule(...(ms === 0 ? [] : [`* sleep ${ms}`]));
  }

  /** Lets a newly initialised library find the token again. A library that was open does not find it. */
  comeBack(): void {
    this.#rule();
  }

  #rule(...lines: string[]): void {
    const control = `${this.#module}.control`;
    writeFileSync(`${control}.new`, [`target ${this.#behind.module}`, ...lines, ""].join("\n"));
    renameSync(`${control}.new`, control);
  }
}
