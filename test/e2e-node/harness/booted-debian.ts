// A Debian booted by systemd as its process 1, in a container of systemd-nspawn with a network of its own. Knows how it boots and
// loses its power, not what runs on it.

import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "../../e2e/harness/wait.js";
import { runCommand } from "./command.js";
import { entering, Machine } from "./machine.js";

const SCRIPT = fileURLToPath(new URL("../../../scripts/debian-root", import.meta.url));
const PACKAGES = ["systemd", "systemd-sysv", "dbus", "curl"];

export class BootedDebian extends Machine {
  /** The disk: the root folder of the machine. */
  readonly root: string;
  readonly #binds: readonly string[];
  #nspawn: number | undefined;
  #leader = 0;

  /** @param binds folders of this machine that it sees too, as `--bind=FROM:TO` */
  constructor(root: string, binds: readonly string[]) {
    super();
    this.root = root;
    this.#binds = binds;
  }

  protected override enter(): readonly string[] {
    return entering(this.#leader, "/opt/kubernetes:");
  }

  /** Makes the machine's disk. */
  async install(): Promise<void> {
    await runCommand([SCRIPT, this.root, ...PACKAGES], { timeoutMs: 600_000 });
    // Debian's installer writes it, debootstrap does not.
    await writeFile(join(this.root, "etc/hosts"), "127.0.0.1 localhost\n");
  }

  /** Boots the machine and returns when systemd has started everything. */
  async boot(): Promise<void> {
    const options = [
      "--quiet",
      "--boot",
      "--register=no",
      "--keep-unit",
      "--private-network",
      "--machine=kms-debian",
    ];
    const console = ["--console=read-only", "--link-journal=no", `--directory=${this.root}`];
    const child = spawn(
      "setpriv",
      ["--pdeathsig", "KILL", "systemd-nspawn", ...options, ...console, ...this.#binds],
      {
        stdio: ["ignore", "ignore", "inherit"],
      },
    );
    const nspawn = child.pid ?? 0;
    this.#nspawn = nspawn;
    this.#leader = await until("the machine's process 1", () => leaderOf(nspawn), { timeoutMs: 60_000 });
    await until(
      "the end of the boot",
      async () => /running|degraded/.test((await this.try("systemctl is-system-running")).stdout),
      { timeoutMs: 120_000, intervalMs: 250 },
    );
  }

  /** Ends every process of the machine at once, as a power failure does, and returns when none is left. */
  async pullPlug(): Promise<void> {
    const nspawn = this.#nspawn;
    if (nspawn === undefined) return;
    // Its process 1, or systemd-nspawn itself, if the boot failed before that was known.
    process.kill(this.#leader === 0 ? nspawn : this.#leader, "SIGKILL");
    await until("the machine's end", () => !existsSync(`/proc/${nspawn}/exe`));
    this.#nspawn = undefined;
    this.#leader = 0;
  }
}

/** Returns the machine's process 1: the child of systemd-nspawn that runs systemd already. */
function leaderOf(nspawn: number): number | undefined {
  const children = readFileSync(`/proc/${nspawn}/task/${nspawn}/children`, "utf8").trim().split(" ");
  return children
    .filter((pid) => pid !== "")
    .map(Number)
    .find((pid) => readFileSync(`/proc/${pid}/comm`, "utf8").trim() === "systemd");
}
