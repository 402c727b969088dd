// Sending an audit log to real receivers: what they get, and that nothing is missing after they stall, break off, restart or
// refuse, and after the plugin restarts.

import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, it } from "vitest";

import { jsonOf, sinkOf, syslogAt, useForwarding } from "../../support/forwarding.js";
import { Rsyslogd } from "../../support/rsyslogd.js";
import { StreamReceiver } from "../../support/syslog-receiver.js";
import { waitFor } from "../../support/wait.js";

const { log, cleanUp, forward, warnings, certificates } = useForwarding();

const listen = async (...options: Parameters<typeof StreamReceiver.listen>): Promise<StreamReceiver> => {
  const receiver = await StreamReceiver.listen(...options);
  cleanUp.push(() => receiver.close());
  return receiver;
};

it("a TLS server with client certificates gets every line, and none twice after a restart", async () => {
  const { ca, key } = certificates();
  const [cert, keyPem] = [readFileSync(ca), readFileSync(key)];
  const tls = { cert, key: keyPem, ca: cert, requestCert: true, rejectUnauthorized: true };
  const receiver = await listen(0, tls);
  const sinks = syslogAt(
    { kind: "tls", host: "127.0.0.1", port: receiver.port },
    { ca, certificate: ca, key },
  );
  await log.append(log.writer(), 0, 3);
  const first = forward(sinks);
  await waitFor(() => receiver.messages.length === 3);
  await first.stop();
  await log.append(log.writer(), 3, 2);
  const second = forward(sinks);
  await waitFor(() => receiver.messages.length >= 5);
  await second.stop();
  expect(receiver.messages.map(jsonOf)).toEqual(log.lines());
  expect(sinkOf(second)).toMatchObject({ up: true, lagSeconds: 0, lines: 2, missing: 0 });
});

it("a server without the right certificate or name gets nothing, and one warning says why", async () => {
  const { ca, key } = certificates();
  const receiver = await listen(0, { cert: readFileSync(ca), key: readFileSync(key) });
  await log.append(log.writer(), 0, 1);
  const address = { kind: "tls", host: "127.0.0.1", port: receiver.port } as const;
  for (const [more, reason] of [
    [{}, /self-signed certificate/],
    [{ ca, serverName: "siem.example.com" }, /Hostname\/IP does not match/],
    [{ ca: join(log.folder, "none.pem") }, /ENOENT/],
  ] as const) {
    const forwarding = forward(syslogAt(address, more));
    await waitFor(() => !sinkOf(forwarding).up && receiver.connections >= 0);
    await new Promise((resolve) => setTimeout(resolve, 100));
    await forwarding.stop();
    expect(warnings).toEqual([expect.stringMatching(reason)]);
    expect(sinkOf(forwarding).lagSeconds).toBeGreaterThan(0);
  }
  expect(receiver.messages).toEqual([]);
});

it("lines that a stalled server never read are sent to the next one", async () => {
  const socket = join(log.folder, "stream");
  const sinks = syslogAt({ kind: "unix", path: socket });
  const stalled = await StreamReceiver.listen(socket, undefined, true);
  await log.append(log.writer(), 0, 5);
  const forwarding = forward(sinks);
  await waitFor(() => stalled.connections > 0);
  await forwarding.stop();
  expect(existsSync(join(log.folder, "state", "audit-syslog.json"))).toBe(false);
  await stalled.close();
  const receiver = await listen(socket);
  const next = forward(sinks);
  await waitFor(() => receiver.messages.length >= 5);
  await next.stop();
  expect(receiver.messages.map(jsonOf)).toEqual(log.lines());
});

it("after a connection breaks, every line that was not confirmed is sent again", async () => {
  const socket = join(log.folder, "stream");
  const broken = await StreamReceiver.listen(socket);
  await log.append(log.writer(), 0, 2);
  const forwarding = forward(syslogAt({ kind: "unix", path: socket }));
  await waitFor(() => broken.messages.length === 2);
  await broken.close();
  await log.append(log.writer(), 2, 2);
  await waitFor(() => !sinkOf(forwarding).up);
  const receiver = await listen(socket);
  await waitFor(() => receiver.messages.length >= 4 && sinkOf(forwarding).up);
  expect([...new Set(receiver.messages.map(jsonOf))]).toEqual(log.lines());
});

it("rsyslogd gets every line on its datagram socket, though it hangs, is killed and restarts", async () => {
  const rsyslogd = new Rsyslogd(log.folder);
  cleanUp.push(() => rsyslogd.kill());
  await rsyslogd.start();
  const writer = log.writer();
  await log.append(writer, 0, 3);
  const forwarding = forward(syslogAt({ kind: "unix", path: rsyslogd.socket }));
  const texts = () => rsyslogd.received().map(jsonOf);
  await waitFor(() => texts().length >= 3);
  expect(rsyslogd.received()[0]).toMatch(/^authpriv kms-pkcs11 request \{"v":1,"seq":1,/);
  rsyslogd.signal("SIGSTOP");
  await log.append(writer, 3, 30);
  await waitFor(() => !sinkOf(forwarding).up);
  await rsyslogd.kill();
  await log.append(writer, 33, 3);
  await rsyslogd.start();
  await waitFor(() => new Set(texts()).size === 36 && sinkOf(forwarding).lagSeconds === 0);
  expect(texts()).toEqual(expect.arrayContaining(log.lines()));
  expect(warnings.length).toBeLessThan(5);
});

it("the OCSF file continues after a torn line and is renamed at its size", async () => {
  const file = join(log.folder, "ocsf.json");
  await log.append(log.writer(), 0, 3);
  writeFileSync(file, '{"class_uid":6003,"torn', { mode: 0o600 });
  // Less than the first three events take, and more than two: the file is renamed with the next ones.
  const forwarding = forward({ ocsf: { file } }, 2_000);
  await waitFor(() => sinkOf(forwarding).lines === 3);
  const eventsIn = (path: string) =>
    readFileSync(path, "utf8")
      .split("\n")
      .slice(0, -1)
      .map((line) => (JSON.parse(line) as { metadata: { sequence: number } }).metadata.sequence);
  expect(eventsIn(file)).toEqual([1, 2, 3]);
  await log.append(log.writer(), 3, 3);
  await waitFor(() => existsSync(`${file}.1`) && sinkOf(forwarding).lines === 6);
  await forwarding.stop();
  expect([...eventsIn(`${file}.1`), ...(existsSync(file) ? eventsIn(file) : [])]).toEqual([1, 2, 3, 4, 5, 6]);
});

it("a sink whose position is damaged gets the log from its beginning", async () => {
  const file = join(log.folder, "ocsf.json");
  await log.append(log.writer(), 0, 2);
  const first = forward({ ocsf: { file } });
  await waitFor(() => sinkOf(first).lines === 2 && sinkOf(first).lagSeconds === 0);
  await first.stop();
  rmSync(file);
  appendFileSync(join(log.folder, "state", "audit-ocsf.json"), "x");
  const second = forward({ ocsf: { file } });
  await waitFor(() => existsSync(file) && sinkOf(second).lines === 2);
});
