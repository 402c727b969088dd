// An audit log that a test sends to its own receivers, with the pauses and limits of a test.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { afterEach } from "vitest";

import type { Forwarder } from "../../src/audit/sinks/forwarder.js";
import { Forwarding, type SinkSettings } from "../../src/audit/sinks/forwarding.js";
import { useAuditFiles, type AuditFiles } from "./audit-files.js";
import { makeCertificate } from "./certificate.js";

const LIBRARY = fileURLToPath(
  new URL(`../../dist/audit/sinks/unix-datagram-${process.arch}.node`, import.meta.url),
);

type Sinks = NonNullable<SinkSettings["sinks"]>;
type Syslog = NonNullable<Sinks["syslog"]>;

/** Returns the settings of a syslog sink. */
export const syslogAt = (address: Syslog["address"], more: Partial<Syslog> = {}): { syslog: Syslog } => ({
  syslog: { address, format: "json", facility: "authpriv", maxMessageBytes: 2048, ...more },
});

/** Returns the first sink. */
export const sinkOf = ({ sinks: [sink] }: Forwarding): Forwarder => {
  if (sink === undefined) throw new Error("no sink");
  return sink;
};

/** Returns the text of a message that is JSON. */
export const jsonOf = (message: string): string => message.slice(message.indexOf("{"));

/** An audit log, and what sends it. */
export interface ForwardingFixture {
  /** Empty before each test. */
  readonly log: AuditFiles;
  /** Run after the test, the last one first. */
  readonly cleanUp: (() => Promise<void>)[];
  /** Of the last `forward`. */
  readonly warnings: string[];
  /** Starts to send the log. */
  readonly forward: (sinks: Partial<Sinks>, maxBytes?: number) => Forwarding;
  /** Makes a self-signed certificate for 127.0.0.1 and returns the names of its files. */
  readonly certificates: (name?: string) => { readonly ca: string; readonly key: string };
}

/** Ends what a test has started after it. */
export function useForwarding(): ForwardingFixture {
  const log = useAuditFiles();
  const cleanUp: (() => Promise<void>)[] = [];
  const warnings: string[] = [];
  afterEach(async () => {
    for (const end of cleanUp.splice(0).reverse()) await end();
  });
  const quiet = (): void => undefined;
  const warn = (fields: object, text: string): void => {
    warnings.push(`${text} ${"err" in fields ? String(fields.err) : ""}`);
  };
  const forward = (sinks: Partial<Sinks>, maxBytes = 1e6): Forwarding => {
    warnings.length = 0;
    const forwarding = new Forwarding(
      { file: log.file, maxBytes, sinks: { stateDir: join(log.folder, "state"), ...sinks } },
      "1.2.3",
      { debug: quiet, info: quiet, warn, error: warn },
      {
        timing: { pollMs: 10, firstRetryMs: 20, lastRetryMs: 100 },
        limits: { connectMs: 2_000, sendMs: 300, confirmMs: 300, settleMs: 300 },
        library: LIBRARY,
      },
    );
    cleanUp.push(() => forwarding.stop());
    return forwarding;
  };
  const certificates = (name = "tls"): { ca: string; key: string } => {
    const folder = join(log.folder, name);
    mkdirSync(folder);
    const [ca, key] = [join(folder, "certificate.pem"), join(folder, "key.pem")];
    makeCertificate(ca, key);
    return { ca, key };
  };
  return { log, cleanUp, warnings, forward, certificates };
}
