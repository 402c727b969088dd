// Sending an audit log to a real rsyslogd over TLS (RFC 5425), with both of its TLS libraries: that every line arrives although
// it stalls and is restarted, and that nothing is sent to a receiver with another certificate, or without TLS.

import { mkdirSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";

import { expect, it } from "vitest";

import { freePort } from "../../support/free-port.js";
import { jsonOf, sinkOf, syslogAt, useForwarding } from "../../support/forwarding.js";
import { Rsyslogd, type RsyslogdPort } from "../../support/rsyslogd.js";
import { waitFor } from "../../support/wait.js";

const { log, cleanUp, forward, warnings, certificates } = useForwarding();

/** Starts a rsyslogd on a free port. */
async function start(
  options: Omit<RsyslogdPort, "port">,
): Promise<{ rsyslogd: Rsyslogd; address: { kind: "tls"; host: string; port: number } }> {
  const port = await freePort();
  const folder = join(log.folder, "rsyslogd");
  mkdirSync(folder);
  const rsyslogd = new Rsyslogd(folder, { port, ...options });
  cleanUp.push(() => rsyslogd.kill());
  await rsyslogd.start();
  return { rsyslogd, address: { kind: "tls", host: "127.0.0.1", port } };
}

it.each(["gtls", "ossl"] as const)(
  "rsyslogd (%s) gets every line over TLS, though it stalls, is killed and restarts",
  async (driver) => {
    const { ca, key } = certificates();
    const { rsyslogd, address } = await start({ driver, certificate: ca, key });
    const writer = log.writer();
    await log.append(writer, 0, 3);
    const forwarding = forward(syslogAt(address, { ca }));
    const texts = (): string[] => rsyslogd.received().map(jsonOf);
    await waitFor(() => texts().length >= 3);
    expect(rsyslogd.received()[0]).toMatch(/^authpriv kms-pkcs11 request \{"v":1,"seq":1,/);
    rsyslogd.signal("SIGSTOP");
    // More than the kernel buffers for a receiver that reads nothing.
    await log.append(writer, 3, 30);
    await waitFor(() => sinkOf(forwarding).lagSeconds > 0);
    await rsyslogd.kill();
    await waitFor(() => !sinkOf(forwarding).up);
    await log.append(writer, 33, 3);
    await rsyslogd.start();
    await waitFor(() => new Set(texts()).size === 36 && sinkOf(forwarding).lagSeconds === 0);
    expect(texts()).toEqual(expect.arrayContaining(log.lines()));
    expect(warnings.length).toBeLessThan(5);
  },
);

it.each(["gtls", "ossl"] as const)(
  "rsyslogd (%s) that asks for a client certificate gets lines only with it",
  async (driver) => {
    const { ca, key } = certificates();
    const { rsyslogd, address } = await start({ driver, certificate: ca, key, clientCertificates: true });
    await log.append(log.writer(), 0, 2);
    const without = forward(syslogAt(address, { ca }));
    await waitFor(() => !sinkOf(without).up);
    await without.stop();
    expect(warnings[0]).toMatch(/certificate required|closed the connection|ECONNRESET|bad certificate/);
    const forwarding = forward(syslogAt(address, { ca, certificate: ca, key }));
    await waitFor(() => rsyslogd.received().length >= 2);
    await forwarding.stop();
    expect(rsyslogd.received().map(jsonOf)).toEqual(log.lines());
  },
);

it.each(["gtls", "ossl"] as const)(
  "rsyslogd (%s) with a certificate of another issuer or name gets nothing",
  async (driver) => {
    const { ca, key } = certificates();
    const other = certificates("other");
    const { rsyslogd, address } = await start({ driver, certificate: ca, key });
    await log.append(log.writer(), 0, 1);
    for (const [more, reason] of [
      [{ ca: other.ca }, /self-signed certificate|unable to verify/],
      [{ ca, serverName: "siem.example.com" }, /Hostname\/IP does not match/],
    ] as const) {
      const forwarding = forward(syslogAt(address, more));
      await waitFor(() => !sinkOf(forwarding).up);
      await forwarding.stop();
      expect(warnings).toEqual([expect.stringMatching(reason)]);
    }
    expect(rsyslogd.received().filter((line) => line.includes("kms-pkcs11"))).toEqual([]);
  },
);

it("a receiver without TLS gets no line, and the warning says that it does not speak TLS", async () => {
  const { ca, key } = certificates();
  const { rsyslogd, address } = await start({ driver: "ptcp", certificate: ca, key });
  await log.append(log.writer(), 0, 1);
  const forwarding = forward(syslogAt(address, { ca }));
  await waitFor(() => !sinkOf(forwarding).up);
  await forwarding.stop();
  expect(warnings).toEqual([expect.stringMatching(/accepts connections but does not answer in TLS/)]);
  expect(rsyslogd.received().filter((line) => line.includes("kms-pkcs11"))).toEqual([]);
});

it("a receiver that answers in plain text is reported as one that does not speak TLS", async () => {
  const { ca } = certificates();
  const server = createServer((socket) =>
    socket
      .on("error", () => undefined)
      .resume()
      .end("220 a mail server\r\n"),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanUp.push(
    () =>
      new Promise((resolve) =>
        server.close(() => {
          resolve();
        }),
      ),
  );
  await log.append(log.writer(), 0, 1);
  const { port } = server.address() as AddressInfo;
  const forwarding = forward(syslogAt({ kind: "tls", host: "127.0.0.1", port }, { ca }));
  await waitFor(() => !sinkOf(forwarding).up);
  await forwarding.stop();
  expect(warnings[0]).toMatch(/accepts connections but does not answer in TLS/);
});
