// An HSM beside the node: SoftHSM behind a p11-kit server, which the node reaches through a unix socket as it would reach a
// network HSM, and a stand-in for the vendor's library. It can fail and come back.

import { chmod, chown, copyFile, mkdir, rm, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ManagedProcess } from "../../e2e/harness/process.js";
import { until } from "../../e2e/harness/wait.js";
import { findLibrary } from "../../support/token.js";
import { softHsmModule } from "../../support/softhsm.js";
import { runCommand } from "./command.js";

/** The plugin's user in deploy/. The server only serves the user that it runs as. */
const USER = 10001;
const AS_USER = ["setpriv", `--reuid=${USER}`, `--regid=${USER}`, "--clear-groups"];
const LIBRARY = fileURLToPath(new URL("vendor-library.c", import.meta.url));
export const PIN = "1234";

export class NetworkHsm {
  readonly #folder: string;
  readonly #token: string;
  #server: ManagedProcess | undefined;

  /** @param folder what the node sees as /opt/hsm; @param token the folder of the token, which the node cannot see */
  constructor(folder: string, token: string) {
    this.#folder = folder;
    this.#token = token;
  }

  /** Makes the library and a token named kms, and starts the HSM. */
  async create(): Promise<void> {
    const lib = join(this.#folder, "lib");
    const tokens = join(this.#token, "tokens");
    for (const folder of [lib, join(this.#folder, "run"), tokens]) await mkdir(folder, { recursive: true });
    await runCommand(["cc", "-shared", "-fPIC", "-O1", "-o", join(lib, "libpkcs11.so"), LIBRARY, "-ldl"]);
    await copyFile(p11KitClient(), join(lib, "p11-kit-client.so"));
    await writeFile(this.#configuration, `directories.tokendir = ${tokens}\nlog.level = ERROR\n`);
    for (const folder of [this.#token, tokens, join(this.#folder, "run")]) await chown(folder, USER, USER);
    await chmod(this.#folder, 0o755);
    const init = ["softhsm2-util", "--init-token", "--free", "--label", "kms", "--pin", PIN, "--so-pin", PIN];
    await runCommand(["env", `SOFTHSM2_CONF=${this.#configuration}`, ...AS_USER, ...init]);
    await this.start();
  }

  async start(): Promise<void> {
    const socket = join(this.#folder, "run/hsm.sock");
    const [setpriv = "", ...asUser] = AS_USER;
    // The kernel forgets at a change of the user that this process is to end with the test.
    const endsWithTest = ["setpriv", "--pdeathsig", "KILL"];
    const provider = softHsmModule();
    this.#server = ManagedProcess.start({
      name: "HSM",
      command: setpriv,
      args: [
        ...[...asUser, ...endsWithTest, "p11-kit", "server", "--foreground"],
        ...["--provider", provider, "-n", socket, "pkcs11:"],
      ],
      env: { SOFTHSM2_CONF: this.#configuration },
      logFile: join(this.#token, "server.log"),
    });
    await until("the HSM's socket", () => existsSync(socket), { process: this.#server });
  }

  /** Ends the HSM in the middle of whatever it does, connections included. */
  async kill(): Promise<void> {
    await rm(join(this.#folder, "run/hsm.sock"), { force: true });
    await this.#server?.kill();
  }

  get #configuration(): string {
    return join(this.#token, "softhsm2.conf");
  }
}

function p11KitClient(): string {
  const paths = ["x86_64-linux-gnu", "aarch64-linux-gnu"].map(
    (arch) => `/usr/lib/${arch}/pkcs11/p11-kit-client.so`,
  );
  return findLibrary("p11-kit-client.so", paths, "apt-get install p11-kit-modules");
}
