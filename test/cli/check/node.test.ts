// What `check` finds out about files and sockets on this machine: each kind of problem once, on real files and sockets.
// Cases of another user need root and are skipped without.

import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer, type AddressInfo, type Server } from "node:net";
import { join } from "node:path";

import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { connectionProblem, findApiserverUser } from "../../../src/admin/apiserver-access.js";
import { asUser } from "../../../src/admin/as-user.js";
import { Report } from "../../../src/cli/check/findings.js";
import { checkNode } from "../../../src/cli/check/node.js";
import { loadSettings } from "../../../src/config/load.js";
import type { Settings } from "../../../src/config/settings.js";
import { startServer } from "../../../src/server/server.js";
import { ECHO } from "../../support/kms-server.js";
import { makeFolder } from "../../support/token.js";

const isRoot = process.getuid?.() === 0;
const SOMEBODY = { uid: 4242, gid: 4242, groups: [] };

let folder: string;
let socket: string;
let settings: Settings;
let servers: Server[];

beforeEach(() => {
  folder = makeFolder("check-node");
  chmodSync(folder, 0o755);
  for (const name of ["run", "state", "log"]) mkdirSync(join(folder, name), { mode: 0o700 });
  socket = join(folder, "run", "kms.sock");
  const pin = join(folder, "pin");
  writeFileSync(pin, "1234", { mode: 0o600 });
  const configPath = join(folder, "config.yaml");
  const key = `pkcs11:token=t;object=kms-kek?module-path=/bin/true&pin-source=file:${pin}`;
  writeFileSync(
    configPath,
    `apiVersion: kms-pkcs11.dev/v1\nkind: PluginConfiguration\nkeys: { uri: "${key}" }\nsocket: { path: ${socket} }\nstateDir: ${join(folder, "state")}\naudit: { file: ${join(folder, "log", "audit.log")} }\n`,
    { mode: 0o644 },
  );
  settings = loadSettings({ configPath, flags: {}, env: {}, serves: true });
  servers = [];
});

afterEach(() => {
  for (const server of servers) server.close();
  rmSync(folder, { recursive: true, force: true });
});

const listen = (address: string | { host: string; port: number }): Promise<Server> =>
  new Promise((resolve) => {
    const server = createServer();
    servers.push(server);
    server.listen(typeof address === "string" ? { path: address } : address, () => {
      resolve(server);
    });
  });

const findings = async (
  changes: Partial<Settings> = {},
  user?: typeof SOMEBODY,
  probe?: (path: string) => void,
): Promise<string[]> => {
  const report = new Report();
  const configPath = join(folder, "config.yaml");
  const check = { settings: { ...settings, ...changes }, configPath, report, probe };
  await asUser(user, () => checkNode(check));
  return report.findings.map(({ verdict, subject, detail }) => `${verdict} ${subject}: ${detail}`);
};
const problems = async (...args: Parameters<typeof findings>): Promise<string[]> =>
  (await findings(...args)).filter((line) => !line.startsWith("ok "));

const withSocket = (changes: object): Partial<Settings> => ({
  socket: { path: socket, abstract: false, mode: 0o600, ...changes },
});

it("check finds nothing wrong with folders of this user, and leaves nothing behind", async () => {
  const before = readdirSync(folder, { recursive: true }).sort();
  expect(await problems()).toEqual([]);
  expect(readdirSync(folder, { recursive: true }).sort()).toEqual(before);
  const lines = (await findings()).join("\n");
  expect(lines).toMatch(/^ok state: .*state, owner \d+, mode 0700, \d+ MiB free$/m);
  expect(lines).toMatch(/^ok socket: .*kms\.sock can be bound$/m);
});

it("check finds a file in the socket's place, and leaves it alone", async () => {
  writeFileSync(socket, "mine");
  expect(await problems()).toEqual([`fail socket: ${socket} is not a socket; left untouched, move it first`]);
  expect(existsSync(socket)).toBe(true);
});

it("check finds another process on the socket, and reports a running plugin as such", async () => {
  await listen(socket);
  expect(await problems()).toEqual([
    `fail socket: ${socket} is in use: the process that listens there has not answered within 5 s; stop that process ('ss -xlp' shows its pid) or choose another socket`,
  ]);
  for (const server of servers.splice(0)) server.close();
  const plugin = await startServer(
    { path: socket, abstract: false, mode: 0o600 },
    ECHO,
    () => undefined,
    () => undefined,
  );
  const lines = await findings();
  await plugin.stop(0);
  expect(lines.join("\n")).toContain(
    `ok socket: ${socket} is in use: a KMS plugin answers there with key_id k`,
  );
});

it("check leaves a socket alone that nobody listens on", async () => {
  const { code } = await new Promise<{ code?: string }>((resolve) => {
    const server = createServer();
    server.listen(socket, () => {
      linkSync(socket, `${socket}.kept`);
      server.close(() => {
        linkSync(`${socket}.kept`, socket);
        resolve({});
      });
    });
  });
  expect([code, await problems(), existsSync(socket)]).toEqual([undefined, [], true]);
});

it("check finds a missing folder, an unknown group and a path that is too long", async () => {
  const missing = join(folder, "none", "kms.sock");
  expect(await problems(withSocket({ path: missing }))).toEqual([
    expect.stringMatching(/^fail socket: .*none does not exist; create it with mode 0700$/),
  ]);
  expect(await problems(withSocket({ group: "no-such-group", mode: 0o660 }))).toEqual([
    expect.stringMatching(/^fail socket: socket\.group: there is no group "no-such-group"; name one/),
  ]);
  const long = join(folder, "run", "x".repeat(100));
  expect(await problems(withSocket({ path: long }))).toEqual([expect.stringContaining("at most 107 bytes")]);
});

it("check waits for a plugin that is ending, and has only its http.address left", async () => {
  const ending = createHttpServer((_, response) => {
    response.end("ok\n");
    response.once("close", () => ending.close());
  });
  servers.push(ending);
  await new Promise<void>((resolve) => ending.listen(0, "127.0.0.1", resolve));
  const { port } = ending.address() as AddressInfo;
  expect(await problems({ http: { host: "127.0.0.1", port } })).toEqual([]);
});

it("check finds an http.address that is in use", async () => {
  const server = await listen({ host: "127.0.0.1", port: 0 });
  const { port } = server.address() as AddressInfo;
  expect(await problems({ http: { host: "127.0.0.1", port } })).toEqual([
    `fail http: http.address: cannot listen on 127.0.0.1:${port} (EADDRINUSE); choose another port`,
  ]);
});

it("check finds an audit file with a second name, a folder in its place and a damaged key", async () => {
  const file = join(folder, "log", "audit.log");
  const keyFile = join(folder, "state", "audit.key");
  writeFileSync(file, "", { mode: 0o600 });
  linkSync(file, `${file}.second`);
  expect(await problems()).toEqual([
    expect.stringMatching(/^fail audit: .*has 2 names \(hard links\).*move it/),
  ]);
  rmSync(`${file}.second`);
  rmSync(file);
  mkdirSync(file);
  expect(await problems()).toEqual([expect.stringMatching(/^fail audit: .*audit\.log/)]);
  rmSync(file, { recursive: true });
  writeFileSync(keyFile, "short", { mode: 0o600 });
  expect(await problems()).toEqual([
    expect.stringMatching(/^fail audit: .*is not an audit key .*restore it/),
  ]);
});

describe.runIf(isRoot)("as another user", () => {
  const give = (...names: readonly string[]): void => {
    for (const name of names) chownSync(join(folder, name), SOMEBODY.uid, SOMEBODY.gid);
  };

  it("check finds nothing wrong with that user's folders, and is root again afterwards", async () => {
    give("run", "state", "log", "pin");
    expect(await problems({}, SOMEBODY)).toEqual([]);
    expect([process.geteuid?.(), process.getegid?.()]).toEqual([0, process.getgid?.()]);
  });

  it("check finds each folder and the PIN that this user may not use", async () => {
    const lines = await problems({}, SOMEBODY);
    expect(lines).toEqual([
      expect.stringMatching(
        /^fail state: a PIN is only tried if the attempt can be recorded: user 4242 cannot/,
      ),
      expect.stringMatching(/^fail audit: user .*4242.* may not .*; change its owner or mode/),
      expect.stringMatching(/^fail socket: .*run cannot be entered \(EACCES\); let the plugin's user own it/),
      expect.stringMatching(/^fail PIN: .*pin cannot be read \(EACCES\); let the plugin's user read it$/),
    ]);
  });

  it("check finds a socket.group that this user is not a member of", async () => {
    give("run", "state", "log", "pin");
    const changes = withSocket({ group: "4343", mode: 0o660 });
    expect(await problems(changes, SOMEBODY)).toEqual([
      expect.stringMatching(/^fail socket: .*cannot be given to group 4343 of socket\.group \(EPERM\)/),
    ]);
    expect(await problems(changes, { ...SOMEBODY, groups: [4343] as never })).toEqual([]);
  });

  it("check finds whether kube-apiserver's user can open the socket, by its mode and group", async () => {
    const stranger = { uid: 4444, gid: 4444, groups: [], source: "test", isContained: true };
    chmodSync(join(folder, "run"), 0o755);
    const results: (string | undefined)[] = [];
    const probe = (path: string): void => {
      results.push(
        connectionProblem(path, stranger),
        connectionProblem(path, { ...stranger, groups: [4343] }),
      );
    };
    await findings({}, undefined, probe);
    await findings(withSocket({ group: "4343", mode: 0o660 }), undefined, probe);
    expect(results).toEqual(["EACCES", "EACCES", "EACCES", undefined]);
  });
});

it("check reads kube-apiserver's user and groups from its static pod; without one, root", () => {
  const manifest = join(folder, "kube-apiserver.yaml");
  const proc = join(folder, "run");
  expect(findApiserverUser(manifest, proc)).toMatchObject({ uid: 0, gid: 0, groups: [] });
  writeFileSync(
    manifest,
    "spec:\n  securityContext: { runAsUser: 1, runAsGroup: 5, fsGroup: 7, supplementalGroups: [8] }\n  containers:\n  - name: a\n    securityContext: { runAsUser: 2 }\n",
  );
  expect(findApiserverUser(manifest, proc)).toEqual({
    uid: 2,
    gid: 5,
    groups: [8, 7],
    isContained: true,
    source: manifest,
  });
});

it("check groups the findings, reports each once and ends with a summary", () => {
  const report = new Report();
  report.add("ok", "active key", "a");
  report.add("warn", "socket", "chmod it");
  report.add("warn", "socket", "chmod it");
  report.add("warn", "state", "chmod it");
  report.add("ok", "config", "b");
  expect(report.describe()).toBe(
    [
      "Configuration",
      "ok    config      b",
      "",
      "Files and sockets",
      "warn  socket      chmod it",
      "",
      "Keys",
      "ok    active key  a",
      "",
      "2 ok, 1 warning, 0 failures: the plugin can serve; read the warnings",
    ].join("\n"),
  );
});
