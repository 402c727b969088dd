// Binding, keeping and removing the socket, in this process, so that a test can inspect it between two steps.

import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";

import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { bindSocket, type BoundSocket, type SocketSettings } from "../../src/server/socket.js";
import { keepSocket, type KeptSocket, type SocketObserver } from "../../src/server/kept-socket.js";
import { SocketProcess } from "../support/socket-process.js";
import { makeFolder } from "../support/token.js";

let folder: string;
let path: string;
let servers: Server[];

beforeEach(() => {
  folder = makeFolder("socket");
  path = join(folder, "kms.sock");
  servers = [];
});

afterEach(() => {
  for (const server of servers) server.close();
  rmSync(folder, { recursive: true, force: true });
});

const makeServer = (): Server => {
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.end("hello");
  });
  servers.push(server);
  return server;
};
const bind = (settings: Partial<SocketSettings> = {}, server = makeServer()): Promise<BoundSocket> =>
  bindSocket(server, { path, abstract: false, mode: 0o600, ...settings }, () => Promise.resolve("the peer"));
const close = (server: Server): Promise<void> =>
  new Promise((resolve) => {
    server.close(() => {
      resolve();
    });
  });
/** Leaves a socket behind, like a process that was killed. */
const leaveStale = async (): Promise<void> => {
  const server = makeServer();
  await new Promise<void>((resolve) => server.listen(`${path}.stale`, resolve));
  linkSync(`${path}.stale`, path);
  await close(server);
};
const greeting = (address: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect(address);
    socket.once("data", (bytes) => {
      resolve(String(bytes));
    });
    socket.once("error", reject);
  });
const modeOf = (file: string): number => lstatSync(file).mode & 0o777;

describe("binding", () => {
  it.each([0o600, 0o660])(
    "bindSocket gives the file mode %o and nothing else is left in the folder",
    async (mode) => {
      await bind({ mode });
      expect(modeOf(path)).toBe(mode);
      expect(readdirSync(folder)).toEqual(["kms.sock"]);
      expect(await greeting(path)).toBe("hello");
    },
  );

  it("bindSocket creates no file that others could connect to before mode and group are set", async () => {
    const umask = process.umask(0);
    const seen: number[] = [];
    const server = makeServer();
    const listen = server.listen.bind(server) as (...args: unknown[]) => Server;
    server.listen = (...args: unknown[]) => {
      const result = listen(...args);
      expect(existsSync(path)).toBe(false);
      for (const name of readdirSync(folder)) seen.push(modeOf(join(folder, name)));
      return result;
    };
    try {
      await bind({ mode: 0o660 }, server);
    } finally {
      expect(process.umask(umask)).toBe(0);
    }
    expect(new Set(seen)).toEqual(new Set([0o600]));
    expect(modeOf(path)).toBe(0o660);
  });

  it("bindSocket gives the file to a group, by number or by a name of /etc/group", async () => {
    const gid = process.getgid?.() ?? 0;
    await bind({ group: String(gid), mode: 0o660 });
    expect(lstatSync(path).gid).toBe(gid);
    unlinkSync(path);
    await bind({ group: "root", mode: 0o660 }).then(
      () => {
        expect(lstatSync(path).gid).toBe(0);
      },
      // Only a member of a group may give a file to it.
      (error: unknown) => {
        expect(String(error)).toContain("EPERM");
      },
    );
    await expect(bind({ path: `${path}2`, group: "no-such-group" })).rejects.toThrow(
      /no group "no-such-group"/,
    );
    expect(readdirSync(folder)).toEqual(existsSync(path) ? ["kms.sock"] : []);
  });

  it("bindSocket removes a socket that nobody answers on", async () => {
    await leaveStale();
    await bind();
    expect(await greeting(path)).toBe("hello");
  });

  it("bindSocket describes the process on a live socket and leaves the socket alone", async () => {
    await bind();
    await expect(bind()).rejects.toMatchObject({
      code: "SOCKET_UNUSABLE",
      message: `${path} is in use: the peer; stop that process ('ss -xlp' shows its pid) or choose another socket`,
    });
    expect(await greeting(path)).toBe("hello");
  });

  it("bindSocket lets one of two that start at once win", async () => {
    const both = await Promise.allSettled([bind(), bind()]);
    expect(both.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(String(both.find((one) => one.status === "rejected")?.reason)).toMatch(/in use|just taken/);
    expect(readdirSync(folder)).toEqual(["kms.sock"]);
    expect(await greeting(path)).toBe("hello");
  });

  it("bindSocket leaves a file, a folder or a link alone", async () => {
    writeFileSync(path, "mine");
    await expect(bind()).rejects.toThrow(/is not a socket; left untouched/);
    unlinkSync(path);
    symlinkSync("/nowhere", path);
    await expect(bind()).rejects.toThrow(/is not a socket; left untouched/);
    unlinkSync(path);
    mkdirSync(path);
    await expect(bind()).rejects.toThrow(/is not a socket; left untouched/);
    expect(readdirSync(folder)).toEqual(["kms.sock"]);
  });

  it.each([0o770, 0o707, 0o1777])("bindSocket refuses a folder of mode %o", async (mode) => {
    chmodSync(folder, mode);
    await expect(bind()).rejects.toThrow(/can be written by others.*chmod go-w/);
    chmodSync(folder, 0o700);
  });

  it("bindSocket refuses a missing folder and a path that is too long for a socket address", async () => {
    await expect(bind({ path: join(folder, "no", "kms.sock") })).rejects.toThrow(/create it with mode 0700/);
    const long = join(folder, "x".repeat(120));
    await expect(bind({ path: long })).rejects.toThrow(/at most 107 bytes/);
    const deep = join(folder, "y".repeat(104 - folder.length));
    mkdirSync(deep, { mode: 0o700 });
    await expect(bind({ path: join(deep, "k") })).rejects.toThrow(/at most 107 bytes|shorter/);
  });

  it("bindSocket serves an abstract name, which leaves no file", async () => {
    const name = `kms-pkcs11-test-${process.pid}`;
    const bound = await bind({ path: name, abstract: true });
    expect(await greeting(`\0${name}`)).toBe("hello");
    bound.remove();
    expect(readdirSync(folder)).toEqual([]);
    await expect(bind({ path: name, abstract: true })).rejects.toThrow(/just taken/);
  });
});

describe("processes that start at the same moment on a socket that was left behind", () => {
  it("of processes that start at once on a stale socket, one serves and the others report it", async () => {
    const starters = Array.from({ length: 4 }, () => new SocketProcess(path));
    try {
      for (let round = 0; round < 40; round++) {
        await leaveStale();
        const outcomes = await Promise.all(starters.map((starter) => starter.order("start")));
        const serving = starters.filter((_, index) => outcomes[index] === "bound");
        expect(serving, outcomes.join("\n")).toHaveLength(1);
        for (const outcome of outcomes) expect(outcome).toMatch(/^bound$|is in use: the peer/);
        expect(await greeting(path)).toBe(String(serving[0]?.pid));
        expect(readdirSync(folder)).toEqual(["kms.sock"]);
        await Promise.all(starters.map((starter) => starter.order("stop")));
      }
    } finally {
      for (const starter of starters) starter.end();
    }
  });

  it("processes bind a stale socket after one of them died while it held the lock", async () => {
    await leaveStale();
    const lock = join(folder, ".kms.sock.lock");
    writeFileSync(lock, "");
    const longAgo = new Date(Date.now() - 60_000);
    utimesSync(lock, longAgo, longAgo);
    await bind();
    expect(await greeting(path)).toBe("hello");
    expect(readdirSync(folder)).toEqual(["kms.sock"]);
  });
});

describe("a socket whose file changes while it is served", () => {
  const keep = (observe?: SocketObserver): Promise<KeptSocket> =>
    keepSocket({ path, abstract: false, mode: 0o600 }, makeServer, {
      ask: () => Promise.resolve("the peer"),
      consequence: "kube-apiserver cannot reach this plugin",
      observe,
    });

  it("a served socket is bound again if its file is gone", async () => {
    const kept = await keep();
    unlinkSync(path);
    expect(kept.problem()).toMatch(/kms\.sock is gone.*cannot reach this plugin/);
    await kept.rebind();
    expect(kept.problem()).toBeUndefined();
    expect(await greeting(path)).toBe("hello");
    kept.stop();
    expect(readdirSync(folder)).toEqual([]);
  });

  it("a served socket is left alone if another process has replaced it", async () => {
    const kept = await keep();
    renameSync(path, `${path}.aside`);
    await bind();
    expect(kept.problem()).toMatch(
      /another file has replaced the socket .*kms\.sock.*cannot reach this plugin/,
    );
    const theirs = lstatSync(path).ino;
    await kept.rebind();
    expect(kept.problem()).toMatch(/another file has replaced/);
    kept.stop();
    expect(lstatSync(path).ino).toBe(theirs);
  });

  it("a served socket reports why it cannot be bound again", async () => {
    const reports: (string | undefined)[] = [];
    const kept = await keep((problem) => reports.push(problem));
    unlinkSync(path);
    chmodSync(folder, 0o777);
    await kept.rebind();
    await kept.rebind();
    expect(kept.problem()).toMatch(/is gone.*others/);
    chmodSync(folder, 0o700);
    await kept.rebind();
    expect(kept.problem()).toBeUndefined();
    kept.stop();
    expect(reports).toEqual([
      expect.stringMatching(/is gone: kube-apiserver cannot reach this plugin$/),
      expect.stringMatching(/is gone.*others/),
      undefined,
    ]);
  });
});

describe("removing", () => {
  it("remove() removes the file", async () => {
    const bound = await bind();
    bound.remove();
    expect(existsSync(path)).toBe(false);
  });

  it("remove() removes neither another process's socket nor another file under that name", async () => {
    const bound = await bind();
    const [first] = servers;
    unlinkSync(path);
    await bind();
    bound.remove();
    if (first !== undefined) await close(first);
    expect(await greeting(path)).toBe("hello");
  });
});
