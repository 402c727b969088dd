// If the log's reader stops reading or exits, or its disk is full, the plugin continues to serve and reports lost
// lines.

import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";

import { LogOutput, openSink, type LogSink } from "../../src/observability/log-output.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { childrenOf, MAIN } from "../support/plugin-process.js";
import { makeFolder } from "../support/token.js";
import { waitFor } from "../support/wait.js";

describe("the bounded buffer", () => {
  const taken: string[] = [];
  let pendingBytes = 0;
  let breakIt: (error: Error) => void = () => undefined;
  const sink: LogSink = {
    get pendingBytes() {
      return pendingBytes;
    },
    write: (text) => taken.push(text),
    onBroken: (listener) => (breakIt = listener),
    end: () => new Promise(() => undefined),
  };
  afterEach(() => {
    taken.length = 0;
    pendingBytes = 0;
  });

  it("the bounded buffer drops lines that do not fit, and later reports their number", () => {
    const output = new LogOutput(sink, 100);
    output.write("first\n");
    pendingBytes = 98;
    output.write("lost\n");
    output.write("lost too\n");
    pendingBytes = 0;
    output.write("second\n");
    output.write("third\n");
    expect(output.dropped).toBe(2);
    expect(taken).toEqual(["first\n", expect.stringContaining('"dropped":2'), "second\n", "third\n"]);
    expect(JSON.parse(taken[1] ?? "")).toMatchObject({ level: "warn", dropped: 2 });
  });

  it("the bounded buffer counts every line after its reader has left", () => {
    const output = new LogOutput(sink);
    breakIt(new Error("EPIPE"));
    output.write("a\n");
    output.write("b\n");
    expect(taken).toEqual([]);
    expect(output.dropped).toBe(2);
  });

  it("the bounded buffer does not wait forever for its reader when it is closed", async () => {
    await new LogOutput(sink).close(1);
  });
});

describe("a log in a file", () => {
  let folder: string;

  beforeEach(() => {
    folder = makeFolder("log-file");
  });

  afterEach(() => {
    vi.restoreAllMocks();
    rmSync(folder, { recursive: true });
  });

  const lines = Array.from({ length: 5_000 }, (_, at) => `line ${at} ${"x".repeat(100)}\n`);

  it("a log in a file has every line once and in order", async () => {
    const file = join(folder, "log");
    const fd = openSync(file, constants.O_WRONLY | constants.O_CREAT);
    const output = new LogOutput(openSink(fd));
    for (const line of lines) output.write(line);
    await output.close(60_000);
    closeSync(fd);
    expect(readFileSync(file, "utf8")).toBe(lines.join(""));
  });

  it("the log output copies each line a bounded number of times while the disk is full", () => {
    let copied = 0;
    const concat = Buffer.concat.bind(Buffer);
    vi.spyOn(Buffer, "concat").mockImplementation((list) => {
      const joined = concat(list);
      copied += joined.length;
      return joined;
    });
    const fd = openSync("/dev/full", constants.O_WRONLY);
    const output = new LogOutput(openSink(fd));
    for (const line of lines) output.write(line);
    expect(output.dropped).toBe(0);
    expect(copied).toBeLessThanOrEqual(lines.join("").length);
  });
});

describe("a plugin whose standard output is not read", () => {
  // Started by the tests, with standard outputs of their own.
  const kms = usePlugin({ hsm: {} }, { start: false });
  let child: ChildProcess | undefined;
  const folder = makeFolder("log-output");
  const fifo = join(folder, "stdout");
  const opened: number[] = [];

  beforeAll(() => {
    execFileSync("mkfifo", [fifo]);
  });

  afterEach(async () => {
    // script(1) runs the plugin as its child, which would continue in a folder that is being removed.
    const pids = child?.pid === undefined ? [] : [child.pid, ...childrenOf(child.pid)];
    for (const pid of pids) if (existsSync(`/proc/${pid}`)) process.kill(pid, "SIGKILL");
    await waitFor(() => pids.every((pid) => !existsSync(`/proc/${pid}/fd/0`)));
    for (const fd of opened.splice(0)) closeSync(fd);
    await kms.own.stop();
  });

  afterAll(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  /** Opens the pipe and fills it, so that a write that waits for its reader blocks from the first line on. */
  const fullPipe = (): { readonly readEnd: number; readonly writeEnd: number } => {
    const readEnd = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
    for (;;) {
      try {
        writeSync(readEnd, "#".repeat(4095) + "\n");
      } catch {
        break;
      }
    }
    const writeEnd = openSync(fifo, constants.O_WRONLY);
    opened.push(readEnd, writeEnd);
    return { readEnd, writeEnd };
  };
  const serve = (stdout: number): ChildProcess => {
    const env = { ...process.env, ...kms.token.env };
    child = spawn(process.execPath, [MAIN, "serve", "--config", kms.plugin.configFile], {
      env,
      stdio: ["ignore", stdout, "ignore"],
    });
    return child;
  };
  const isServing = async (): Promise<void> => {
    await waitFor(async () => (await kms.client.status()).healthz === "ok", { timeoutMs: 50_000 });
    const sealed = await kms.client.encrypt(Buffer.alloc(32, 7), "uid");
    expect((await kms.client.decrypt(sealed, "uid")).equals(Buffer.alloc(32, 7))).toBe(true);
  };
  const get = async (path: string): Promise<string> => (await kms.own.get(path)).text();
  const exitOf = (one: ChildProcess): Promise<number | NodeJS.Signals | null> =>
    new Promise((resolve) =>
      one.once("exit", (code, signal) => {
        resolve(code ?? signal);
      }),
    );
  const readAll = (fd: number): string => {
    let text = "";
    const chunk = Buffer.alloc(65_536);
    for (;;) {
      try {
        text += chunk.toString("utf8", 0, readSync(fd, chunk));
      } catch {
        return text;
      }
    }
  };

  it("a plugin serves, answers probes, and stops on SIGTERM while its output pipe is full", async () => {
    const { writeEnd } = fullPipe();
    const running = serve(writeEnd);
    await isServing();
    expect(await get("/livez")).toBe("ok\n");
    const exit = exitOf(running);
    running.kill("SIGTERM");
    expect(await exit).toBe(0);
  });

  it("a plugin with unread output writes the lines that waited when the pipe is read again", async () => {
    const { readEnd, writeEnd } = fullPipe();
    const running = serve(writeEnd);
    await isServing();
    let text = "";
    await waitFor(() => (text += readAll(readEnd)).includes('"msg":"Encrypt"'));
    expect(text).toContain("kms-pkcs11 starts");
    const exit = exitOf(running);
    running.kill("SIGTERM");
    expect(await exit).toBe(0);
    expect(text + readAll(readEnd)).toContain("kms-pkcs11 stopped");
  });

  it("a plugin with unread output continues when its reader leaves, and counts the lost lines", async () => {
    const readEnd = openSync(fifo, constants.O_RDWR);
    const writeEnd = openSync(fifo, constants.O_WRONLY);
    const running = serve(writeEnd);
    closeSync(writeEnd);
    closeSync(readEnd);
    await isServing();
    expect(await get("/metrics")).toMatch(/^kms_pkcs11_log_dropped_total [1-9]/m);
    const exit = exitOf(running);
    running.kill("SIGTERM");
    expect(await exit).toBe(0);
  });

  it("a plugin with unread output continues when the disk of its log is full", async () => {
    const full = openSync("/dev/full", constants.O_WRONLY);
    opened.push(full);
    const running = serve(full);
    await isServing();
    const exit = exitOf(running);
    running.kill("SIGTERM");
    expect(await exit).toBe(0);
  });

  it("a plugin with unread output continues when it writes to a terminal on hold", async () => {
    // script(1) copies the terminal to a pipe that nobody reads, and then stops reading the terminal.
    const { writeEnd } = fullPipe();
    const command = `exec ${process.execPath} ${MAIN} serve --config ${kms.plugin.configFile}`;
    child = spawn("script", ["-qfc", command, "/dev/null"], {
      env: { ...process.env, ...kms.token.env },
      stdio: ["ignore", writeEnd, "ignore"],
    });
    await isServing();
    // A terminal's own buffer takes a few KiB before it is full.
    for (let sent = 0; sent < 200; sent++) await kms.client.encrypt(Buffer.alloc(32), "u".repeat(128));
    expect(await get("/livez")).toBe("ok\n");
  });
});
