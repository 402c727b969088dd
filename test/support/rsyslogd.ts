// A real rsyslogd: on a datagram socket, or on a port with TLS or without.

import { spawn, type ChildProcess } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { waitFor } from "./wait.js";

/** How a rsyslogd listens on a port of loopback. */
export interface RsyslogdPort {
  readonly port: number;
  /** "ptcp" for plain TCP; "gtls" and "ossl" for TLS with GnuTLS and OpenSSL. */
  readonly driver: "ptcp" | "gtls" | "ossl";
  /** PEM files. */
  readonly certificate: string;
  readonly key: string;
  /** Whether only clients with a certificate of the same issuer may connect. */
  readonly clientCertificates?: boolean;
}

/** A real rsyslogd that writes the text of each message as a line; on a datagram socket, unless a port is given. */
export class Rsyslogd {
  readonly socket: string;
  readonly #folder: string;
  readonly #port: RsyslogdPort | undefined;
  #process: ChildProcess | undefined;

  constructor(folder: string, port?: RsyslogdPort) {
    this.#folder = folder;
    this.#port = port;
    this.socket = join(folder, "syslog");
    writeFileSync(
      join(folder, "rsyslog.conf"),
      `global(workDirectory="${folder}" maxMessageSize="8k")
${port === undefined ? this.#socketInput() : portInput(port)}
template(name="text" type="string" string="%syslogfacility-text% %app-name% %msgid% %msg%\\n")
ruleset(name="all") { action(type="omfile" file="${folder}/received" template="text" asyncWriting="off" flushInterval="1") }
`,
    );
  }

  #socketInput(): string {
    return `module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="${this.socket}" UseSpecialParser="off" Ruleset="all" RateLimit.Interval="0")`;
  }

  /** Starts rsyslogd, or another one after it was killed; resolves when it has bound its socket. */
  async start(): Promise<void> {
    const files = ["-f", join(this.#folder, "rsyslog.conf"), "-i", join(this.#folder, "pid")];
    const PATH = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`;
    const child = spawn("rsyslogd", ["-n", ...files], { stdio: "ignore", env: { ...process.env, PATH } });
    this.#process = child;
    let failure: Error | undefined;
    child.on("error", (error) => {
      failure = new Error("apt-get install rsyslog rsyslog-gnutls rsyslog-openssl", { cause: error });
    });
    await waitFor(() => {
      if (failure !== undefined) throw failure;
      return this.#port === undefined ? isBoundTo(this.socket) : isListening(this.#port.port);
    });
  }

  signal(name: NodeJS.Signals): void {
    this.#process?.kill(name);
  }

  async kill(): Promise<void> {
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  }

  /** The lines received so far: facility, name, event, text. */
  received(): string[] {
    try {
      return readFileSync(join(this.#folder, "received"), "utf8").split("\n").slice(0, -1);
    } catch {
      return [];
    }
  }
}

function portInput({ port, driver, certificate, key, clientCertificates = false }: RsyslogdPort): string {
  const files = `DefaultNetstreamDriverCAFile="${certificate}" DefaultNetstreamDriverCertFile="${certificate}"`;
  const mode = driver === "ptcp" ? 0 : 1;
  const auth =
    driver === "ptcp" ? "" : `StreamDriver.AuthMode="${clientCertificates ? "x509/certvalid" : "anon"}"`;
  return `global(${files} DefaultNetstreamDriverKeyFile="${key}")
module(load="imtcp" StreamDriver.Name="${driver}" StreamDriver.Mode="${mode}" ${auth})
input(type="imtcp" port="${port}" address="127.0.0.1" ruleset="all")`;
}

function isBoundTo(socket: string): boolean {
  return readFileSync("/proc/net/unix", "utf8").includes(`${socket}\n`);
}

function isListening(port: number): boolean {
  const address = `0100007F:${port.toString(16).toUpperCase().padStart(4, "0")} 00000000:0000 0A`;
  return readFileSync("/proc/net/tcp", "utf8").includes(address);
}
