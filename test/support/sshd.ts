// A real sshd on loopback, run by the user of the tests with a host key of its own, and an ssh that uses keys of its own
// instead of the user's: OpenSSH takes the home directory from the user database, not from the environment.

import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { delimiter, join } from "node:path";

import { freePort } from "./free-port.js";
import { waitFor } from "./wait.js";

/** sshd insists on being started by its absolute path. */
const SSHD = ["/usr/sbin/sshd", "/usr/bin/sshd"].find((path) => existsSync(path));
/** Of sshd's privilege separation, which it uses if it runs as root. */
const PRIVSEP = "/run/sshd";

export class Sshd {
  readonly port: number;
  readonly folder: string;
  /** PATH with an `ssh` that uses the configuration of this fixture. */
  readonly path: string;
  readonly #server: ChildProcess;

  private constructor(port: number, folder: string, server: ChildProcess) {
    this.port = port;
    this.folder = folder;
    this.path = `${folder}${delimiter}${process.env["PATH"] ?? ""}`;
    this.#server = server;
  }

  /** @param settings lines of sshd_config */
  static async start(...settings: string[]): Promise<Sshd> {
    if (SSHD === undefined) throw new Error("sshd is missing; install openssh-server");
    if (process.getuid?.() === 0) mkdirSync(PRIVSEP, { recursive: true, mode: 0o755 });
    const folder = mkdtempSync(join(tmpdir(), "kms-pkcs11-sshd-"));
    const port = await freePort();
    for (const name of ["host", "id"]) {
      execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", join(folder, name)]);
    }
    const at = (name: string): string => join(folder, name);
    const lines = [
      `Port ${port}`,
      "ListenAddress 127.0.0.1",
      `HostKey ${at("host")}`,
      `AuthorizedKeysFile ${at("id.pub")}`,
      "StrictModes no",
      "UsePAM no",
      "PasswordAuthentication no",
      "KbdInteractiveAuthentication no",
      "PidFile none",
      ...settings,
    ];
    writeFileSync(at("sshd_config"), `${lines.join("\n")}\n`);
    const server = spawn(SSHD, ["-D", "-e", "-f", at("sshd_config")], { stdio: "ignore" });
    const sshd = new Sshd(port, folder, server);
    sshd.#configureClient();
    await waitFor(() => answers(port), { what: "sshd" });
    return sshd;
  }

  /** The address of a plugin that serves HTTP on this machine's loopback. */
  node(httpPort: number | string, user = userInfo().username): string {
    return `ssh://${user}@127.0.0.1:${this.port}/127.0.0.1:${httpPort}`;
  }

  /** Makes ssh know another host key than the server's, or none. */
  knows(hostKey: "the server's" | "another" | "none"): void {
    const key = readFileSync(join(this.folder, hostKey === "another" ? "id.pub" : "host.pub"), "utf8");
    const line = hostKey === "none" ? "" : `[127.0.0.1]:${this.port} ${key}`;
    writeFileSync(join(this.folder, "known_hosts"), line);
  }

  /** Makes ssh offer the key that the server accepts, or none. */
  offersKey(offers: boolean): void {
    const at = (name: string): string => join(this.folder, name);
    const lines = [
      `UserKnownHostsFile ${at("known_hosts")}`,
      "GlobalKnownHostsFile none",
      "IdentityAgent none",
      "IdentitiesOnly yes",
      `IdentityFile ${offers ? at("id") : "none"}`,
    ];
    writeFileSync(at("ssh_config"), `${lines.join("\n")}\n`);
  }

  #configureClient(): void {
    this.knows("the server's");
    this.offersKey(true);
    const real = execFileSync("sh", ["-c", "command -v ssh"], { encoding: "utf8" }).trim();
    const shim = join(this.folder, "ssh");
    writeFileSync(shim, `#!/bin/sh\nexec ${real} -F ${join(this.folder, "ssh_config")} "$@"\n`);
    chmodSync(shim, 0o755);
  }

  stop(): void {
    this.#server.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("error", () => {
      resolve(false);
    });
    socket.once("data", () => {
      socket.destroy();
      resolve(true);
    });
  });
}
