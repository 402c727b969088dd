// What a test does on a machine of its own, whether kubelet or systemd runs there.

import { runCommand, tryCommand, type CommandOptions, type CommandResult } from "./command.js";

export abstract class Machine {
  /** Returns the words that, put before a command, run it on the machine. */
  protected abstract enter(): readonly string[];

  /** The command with which a person gets a shell on the machine. */
  get entrance(): string {
    return [...this.enter(), "/bin/bash"].join(" ");
  }

  /** Runs a shell command as root on the machine and returns its standard output; throws if it fails. */
  async run(command: string, options?: CommandOptions): Promise<string> {
    return runCommand([...this.enter(), "/bin/sh", "-c", command], options);
  }

  /** Runs a shell command as root on the machine; any exit code is a result. */
  async try(command: string, options?: CommandOptions): Promise<CommandResult> {
    return tryCommand([...this.enter(), "/bin/sh", "-c", command], options);
  }

  /** Returns the HTTP status of the plugin's endpoint, such as `/readyz`; 0 if nothing listens. */
  async httpStatus(url: string): Promise<number> {
    const { stdout } = await this.try(`curl -sk -m 5 -o /dev/null -w '%{http_code}' ${url}`);
    return Number(stdout);
  }
}

/** Returns the words of nsenter for all namespaces of a process but its users, with a clean environment. */
export function entering(pid: number, path: string): readonly string[] {
  const environment = [
    `PATH=${path}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
    "HOME=/root",
  ];
  return ["nsenter", "-t", String(pid), "-m", "-u", "-i", "-n", "-p", "--", "env", "-i", ...environment];
}
