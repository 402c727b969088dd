// Tunnels of the system's ssh to the HTTP addresses of nodes: one process for each node, opened on first use. The local
// end is a unix socket in a private folder, so that no other user of this machine can connect. ssh decides about keys and
// host keys as the user has configured; it never prompts, since nobody might see it.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { SshNode } from "../config/node-address.js";
import { environmentWithoutPin, type PinSource } from "../config/pin-source.js";
import { collapseSpaces, truncate } from "../untrusted-text.js";

/** Time limit of the first connection, in ms; it is made before a command changes anything. */
const FIRST_MS = 15_000;
/** How long a request waits for ssh to connect again, in ms. The attempt continues, and the next request waits for it too. */
const AGAIN_MS = 3_000;
/** Pause after a failed connection, in ms: nodes may ban an address that fails often. */
const RETRY_AFTER_MS = 5_000;
const POLL_MS = 20;
/** Time for ssh to report why a connection through the tunnel failed, in ms. */
const REPORT_MS = 200;
const MAX_STDERR = 8_192;
const MAX_REASON = 300;

/**
 * Takes the folder of the socket and ssh's arguments. Runs ssh, ends it when standard input ends, as it does even if this
 * process is killed, and then removes the folder.
 */
const GUARD = `
folder=$1
shift
exec 3<&0
ssh "$@" </dev/null 3<&- &
ssh=$!
{ read -r _ <&3; kill "$ssh"; } 2>/dev/null &
guard=$!
exec 2>/dev/null
wait "$ssh"
code=$?
kill "$guard"
rm -f "$folder/s"
rmdir "$folder"
exit "$code"`;

/** Session options on top of the user's configuration. A shared connection would outlive this process. */
const OPTIONS = [
  "BatchMode=yes",
  "ConnectTimeout=10",
  "ServerAliveInterval=5",
  "ServerAliveCountMax=2",
  "ControlMaster=no",
  "ControlPath=none",
  "ForwardAgent=no",
  "ForwardX11=no",
  "PermitLocalCommand=no",
  "LogLevel=INFO",
];

const tunnels = new Map<string, Tunnel>();
const pins: PinSource[] = [];

/** Keeps the environment variables of these sources from ssh. */
export function withholdFromSsh(sources: readonly PinSource[]): void {
  pins.push(...sources);
}

/** Returns the tunnel to a node, which is opened when its socket is first asked for. */
export function tunnelTo(node: SshNode): Tunnel {
  const name = [node.user, node.host, node.port, node.http].join(" ");
  const tunnel = tunnels.get(name) ?? new Tunnel(node);
  tunnels.set(name, tunnel);
  return tunnel;
}

/** A tunnel that is opened again if ssh has ended. Lives until this process ends. */
export class Tunnel {
  readonly #node: SshNode;
  #connection: Connection | undefined;
  #isFirst = true;

  constructor(node: SshNode) {
    this.#node = node;
  }

  /** Returns the path of the local socket once ssh has authenticated. @throws Error with ssh's reason */
  async socket(): Promise<string> {
    const connection = this.#current();
    const until = this.#isFirst ? connection.startedAt + FIRST_MS : performance.now() + AGAIN_MS;
    try {
      return await connection.ready(until);
    } finally {
      this.#isFirst = false;
    }
  }

  /** Returns what ssh reported about a request that failed; undefined if it reported nothing. */
  async complaint(): Promise<string | undefined> {
    await pause(REPORT_MS);
    const last = this.#connection?.lastLine;
    return last && `ssh: ${last}; does a plugin serve HTTP at ${this.#node.http} there?`;
  }

  #current(): Connection {
    const current = this.#connection;
    const isUsable = current !== undefined && (!current.hasEnded || current.failedRecently);
    this.#connection = isUsable ? current : new Connection(this.#node);
    return this.#connection;
  }
}

/** One run of ssh. */
class Connection {
  readonly startedAt = performance.now();
  readonly #node: SshNode;
  readonly #socket: string;
  #stderr = "";
  #wasReady = false;
  #end: { readonly at: number; readonly code: number | null } | undefined;

  constructor(node: SshNode) {
    this.#node = node;
    const folder = mkdtempSync(join(socketFolder(), "kms-pkcs11-ssh-"));
    this.#socket = join(folder, "s");
    // In a session of its own: Ctrl-C ends a command's work in order, which may need the node. Without a terminal, ssh
    // cannot prompt either.
    const child = spawn("/bin/sh", ["-c", GUARD, "sh", folder, ...sshArguments(node, this.#socket)], {
      detached: true,
      stdio: ["pipe", "ignore", "pipe"],
      env: environmentWithoutPin(process.env, pins),
    });
    child.stderr.on("data", (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString()).slice(-MAX_STDERR);
    });
    child.once("error", () => {
      this.#end ??= { at: performance.now(), code: null };
    });
    child.once("close", (code) => {
      this.#end ??= { at: performance.now(), code };
    });
    child.stdin.on("error", () => undefined);
    // The command ends without waiting for ssh.
    for (const handle of [child, child.stdin, child.stderr]) (handle as { unref?: () => void }).unref?.();
  }

  get hasEnded(): boolean {
    return this.#end !== undefined;
  }

  get failedRecently(): boolean {
    return this.#end !== undefined && !this.#wasReady && performance.now() - this.#end.at < RETRY_AFTER_MS;
  }

  get lastLine(): string | undefined {
    const last = this.#stderr.split(/[\r\n]+/u).findLast((line) => line.trim() !== "");
    return last && truncate(collapseSpaces(last), MAX_REASON);
  }

  /** @param until by performance.now() @throws Error */
  async ready(until: number): Promise<string> {
    for (;;) {
      if (this.#end !== undefined) throw new Error(this.#reason(this.#end.code));
      if (existsSync(this.#socket)) {
        this.#wasReady = true;
        return this.#socket;
      }
      if (performance.now() >= until) throw new Error(`ssh has not connected yet; ${this.#tryIt()}`);
      await pause(POLL_MS);
    }
  }

  #reason(code: number | null): string {
    if (code === 127) return "ssh is not installed; install openssh-client, or give an HTTP address";
    const last = this.lastLine ?? `ssh ended with exit code ${code ?? "unknown"}`;
    if (/host key|host identification/iu.test(this.#stderr)) {
      return `ssh: ${last}; compare the node's host key: ${this.#tryIt()}`;
    }
    if (/permission denied|too many authentication/iu.test(last)) {
      return `ssh: ${last}; it may not ask for a password or passphrase here: load the key into ssh-agent`;
    }
    return `ssh: ${last}; ${this.#tryIt()}`;
  }

  #tryIt(): string {
    const { host, user, port } = this.#node;
    const options = port === undefined ? [] : ["-p", port];
    return `try '${["ssh", ...options, user === undefined ? host : `${user}@${host}`].join(" ")}' in a terminal`;
  }
}

function sshArguments(node: SshNode, socket: string): string[] {
  return ["-N", "-L", `${socket}:${node.http}`, ...sessionArguments(node)];
}

function sessionArguments({ host, user, port }: SshNode): string[] {
  return [
    "-T",
    ...OPTIONS.flatMap((option) => ["-o", option]),
    ...(port === undefined ? [] : ["-p", port]),
    ...(user === undefined ? [] : ["-l", user]),
    "--",
    host,
  ];
}

/** Returns how to run a command on a node with ssh, which never prompts: its arguments and its environment. */
export function sshRun(
  node: SshNode,
  command: string,
): { readonly args: string[]; readonly env: NodeJS.ProcessEnv } {
  return { args: [...sessionArguments(node), command], env: environmentWithoutPin(process.env, pins) };
}

/** ssh expands some characters in a socket's path, and the path must be short (sun_path). */
function socketFolder(): string {
  const folder = tmpdir();
  return /^[\w./-]{1,60}$/u.test(folder) ? folder : "/tmp";
}
