// Constructs the configured sinks of an audit log, each with its transport and format; starts, replaces and stops them. Loaded
// only if a sink is configured.
import { hostname } from "node:os";
import { join } from "node:path";
import type { Log } from "../../log.js";
import { openDatagram } from "./datagram-transport.js";
import { openFile } from "./file-transport.js";
import { Forwarder, type ForwarderTiming, type Sink } from "./forwarder.js";
import type { ReadLine } from "./line-reader.js";
import { asciiJson } from "./ascii-json.js";
import { ocsfEvent } from "./ocsf.js";
import { fieldsOf } from "./line-fields.js";
import { openTls, openUnixStream, type TlsTarget } from "./stream-transport.js";
import { syslogMessage, type Facility } from "./syslog-message.js";
import { TRANSPORT_LIMITS, type OpenTransport, type Transport, type TransportLimits } from "./transport.js";

/** The sinks of one audit log. */
export interface SinkSettings {
  /** The audit log. */
  readonly file: string;
  /** Size at which the file of OCSF events is renamed. */
  readonly maxBytes: number;
  readonly sinks?: {
    readonly stateDir: string;
    readonly syslog?: SyslogSink;
    readonly ocsf?: { readonly file: string };
  };
}

interface SyslogSink extends Omit<TlsTarget, "host" | "port"> {
  readonly address:
    | { readonly kind: "unix"; readonly path: string }
    | { readonly kind: "tls"; readonly host: string; readonly port: number };
  readonly format: "json" | "ocsf";
  readonly facility: Facility;
  readonly maxMessageBytes: number;
}

/** Options of a test; the defaults are those of production. */
export interface ForwardingOptions {
  readonly timing?: Partial<ForwarderTiming>;
  readonly limits?: TransportLimits;
  /** The file of DATAGRAM_LIBRARY. */
  readonly library?: string;
}

/** Sends an audit log to its sinks until it is stopped. */
export class Forwarding {
  readonly #log: Log;
  readonly #version: string;
  readonly #options: ForwardingOptions;
  #forwarders: readonly Forwarder[];

  constructor(settings: SinkSettings, version: string, log: Log, options: ForwardingOptions = {}) {
    this.#log = log;
    this.#version = version;
    this.#options = options;
    this.#forwarders = this.#startAll(settings);
  }

  /** The sinks, for the metrics. */
  get sinks(): readonly Forwarder[] {
    return this.#forwarders;
  }

  /** Replaces the sinks. Each continues after the last line that the sink of its name has confirmed. */
  async redirect(settings: SinkSettings): Promise<void> {
    await this.stop();
    this.#forwarders = this.#startAll(settings);
  }

  async stop(): Promise<void> {
    await Promise.all(this.#forwarders.map((forwarder) => forwarder.stop()));
  }

  #startAll(settings: SinkSettings): readonly Forwarder[] {
    const sender = { host: hostname(), version: this.#version };
    return sinksOf(settings, sender, this.#options).map((sink) => {
      const forwarder = new Forwarder(sink, this.#log, this.#options.timing);
      forwarder.start();
      return forwarder;
    });
  }
}

function sinksOf(
  { file, maxBytes, sinks }: SinkSettings,
  sender: { host: string; version: string },
  { limits = TRANSPORT_LIMITS, library }: ForwardingOptions,
): Sink[] {
  if (sinks === undefined) return [];
  const { stateDir, syslog, ocsf } = sinks;
  const sinkOf = (name: string, open: OpenTransport, format: Sink["format"]): Sink => ({
    name,
    file,
    positionFile: join(stateDir, `audit-${name}.json`),
    open,
    format,
  });
  return [
    ...(syslog === undefined
      ? []
      : [
          sinkOf("syslog", openSyslog(syslog, limits, library), (line) =>
            syslogMessage(line, { ...syslog, ...sender }),
          ),
        ]),
    ...(ocsf === undefined
      ? []
      : [
          sinkOf(
            "ocsf",
            () => openFile(ocsf.file, maxBytes),
            (line: ReadLine) => Buffer.from(asciiJson(ocsfEvent(fieldsOf(line), sender)), "latin1"),
          ),
        ]),
  ];
}

/** Returns what connects to a syslog receiver. A socket in the file system may be a datagram or a stream socket. */
export function openSyslog(syslog: SyslogSink, limits: TransportLimits, library?: string): OpenTransport {
  const { address } = syslog;
  if (address.kind === "tls") {
    const { host, port } = address;
    return (signal) => openTls({ ...syslog, host, port }, limits, signal);
  }
  return async (signal): Promise<Transport> => {
    try {
      return await openDatagram(address.path, limits, library);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EPROTOTYPE") throw error;
      return openUnixStream(address.path, limits, signal);
    }
  };
}
