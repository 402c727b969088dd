// A SoftHSM token in its own folder with its own SOFTHSM2_CONF, and the PKCS#11 URIs of its keys. Several plugins may
// use one token, as they may use one network HSM.

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { copyFile, cp, mkdir, readdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { HsmToken } from "./hsm-token.js";
import { Pkcs11Client } from "../../support/pkcs11-client.js";
import { newFolder } from "./run.js";

const run = promisify(execFile);
const PIN = "1234";
const DAY_MS = 86_400_000;

const MODULE = [
  "/usr/lib/softhsm/libsofthsm2.so",
  "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
  "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
  "/usr/lib64/pkcs11/libsofthsm2.so",
].find((path) => existsSync(path));

export class SoftHsmToken implements HsmToken {
  readonly label: string;
  readonly module: string;
  readonly pinFile: string;
  /** The environment variables that a process needs to find the token. */
  readonly env: { readonly SOFTHSM2_CONF: string };
  readonly #tokens: string;

  private constructor(label: string, module: string, folder: string) {
    this.label = label;
    this.module = module;
    this.pinFile = join(folder, "pin");
    this.env = { SOFTHSM2_CONF: join(folder, "softhsm2.conf") };
    this.#tokens = join(folder, "tokens");
  }

  /** Throws with the installation command if SoftHSM is missing. */
  static async create(label = "e2e"): Promise<SoftHsmToken> {
    if (MODULE === undefined) throw new Error("SoftHSM is missing: apt-get install softhsm2");
    const token = new SoftHsmToken(label, MODULE, await newFolder("hsm"));
    await token.#prepare();
    const env = { ...process.env, ...token.env };
    const init = ["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", PIN];
    await run("softhsm2-util", init, { env });
    return token;
  }

  /** Makes another token with the same keys, as vendors' cloning does. It does not get keys that are made later. */
  async clone(): Promise<SoftHsmToken> {
    const clone = new SoftHsmToken(this.label, this.module, await newFolder("hsm"));
    await clone.#prepare();
    await cp(this.#tokens, clone.#tokens, { recursive: true });
    return clone;
  }

  /** Clones the keys that this token holds and the other lacks. */
  async copyKeysTo(clone: SoftHsmToken): Promise<void> {
    for (const folder of await readdir(this.#tokens)) {
      const own = new Set(await readdir(join(clone.#tokens, folder)));
      const paths = (name: string): [string, string] => [
        join(this.#tokens, folder, name),
        join(clone.#tokens, folder, name),
      ];
      for (const name of await readdir(join(this.#tokens, folder))) {
        if (!own.has(name)) await copyFile(...paths(name));
      }
      // Tells libraries that have the token open to read it again.
      await copyFile(...paths("generation"));
    }
  }

  /** Returns the PKCS#11 URI of a key on the token; `module` is for another module in front of SoftHSM's. */
  uri(object = "kms-kek", module = this.module): string {
    return `pkcs11:token=${this.label};object=${object}?module-path=${module}&pin-source=file:${this.pinFile}`;
  }

  /**
   * Removes the token's files: a process that starts now finds no token, but a process that has it open may continue.
   */
  async detach(): Promise<void> {
    await rename(this.#tokens, `${this.#tokens}.away`);
  }

  async attach(): Promise<void> {
    await rename(`${this.#tokens}.away`, this.#tokens);
  }

  async #prepare(): Promise<void> {
    await mkdir(this.#tokens);
    await writeFile(this.pinFile, PIN, { mode: 0o600 });
    const settings = [
      "directories.tokendir = " + this.#tokens,
      "log.level = ERROR",
      "slots.removable = false",
    ];
    await writeFile(this.env.SOFTHSM2_CONF, settings.join("\n"));
  }

  /**
   * Makes a generation that has been active for this number of days, which `keys create` cannot do. No plugin may run:
   * SoftHSM may lose an object of one process while another one writes to the token.
   */
  async makeKekOfPast(daysAgo: number, object = "kms-kek"): Promise<void> {
    const { module: modulePath, label, pinFile, env } = this;
    const client = new Pkcs11Client({ modulePath, label, pin: PIN, pinFile, env, remove: () => undefined });
    const instant = new Date(Date.now() - daysAgo * DAY_MS).toISOString().replace(/[-:]|\.\d+/g, "");
    await client.open();
    await client.run(({ p11, state }, name) => {
      state.makeKey({ [p11.CKA_LABEL]: name, [p11.CKA_ID]: Buffer.from(name.slice(-16)) });
    }, `${object}@${instant}`);
    await client.exit();
  }
}
