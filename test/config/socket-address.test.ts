// Which socket an endpoint in kube-apiserver's configuration leads to, and when that is the plugin's socket.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { parseSocketAddress, sameSocket, socketOfEndpoint } from "../../src/config/socket-address.js";

const folder = mkdtempSync(join(tmpdir(), "socket-address-"));
mkdirSync(join(folder, "run"));
symlinkSync(join(folder, "run"), join(folder, "var-run"));
writeFileSync(join(folder, "run/there.sock"), "");
symlinkSync("there.sock", join(folder, "run/link.sock"));

afterAll(() => {
  rmSync(folder, { recursive: true });
});

it.each<[endpoint: string, socket: string, isSame: boolean]>([
  ["unix://F/run/a.sock", "F/run/a.sock", true],
  ["unix:F/run/a.sock", "unix://F/run/a.sock", true],
  ["UNIX://F/run/a.sock", "F/run/a.sock", true],
  ["unix:///F/run/a.sock", "F/run/a.sock", true],
  ["unix://F//run/./x/../a.sock", "F/run/a.sock", true],
  ["unix://F/var-run/a.sock", "F/run/a.sock", true],
  ["unix://F/run/a.sock", "F/var-run/a.sock", true],
  ["unix://F/var-run/new/a.sock", "F/run/new/a.sock", true],
  ["unix://F/run/link.sock", "F/run/there.sock", true],
  ["unix://host/F/run/a.sock", "F/run/a.sock", true],
  ["unix://F/run/%61.sock?x", "F/run/a.sock", true],
  ["unix:///@name", "unix:///@name", true],
  ["unix:/@name", "@name", true],
  ["unix://F/run/b.sock", "F/run/a.sock", false],
  ["unix:///@name", "/name", false],
  ["unix:///@a", "@b", false],
])("whether %s leads to the plugin at %s: %s", (endpoint, socket, isSame) => {
  const dialled = socketOfEndpoint(endpoint.replace("F", folder));
  expect(dialled && sameSocket(dialled, parseSocketAddress(socket.replace("F", folder)))).toBe(isSame);
});
