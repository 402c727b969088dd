// The gRPC server on its socket over a provider that does what a test says: cancellation, faults, hostile peers.

import { existsSync, rmSync } from "node:fs";
import * as http2 from "node:http2";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";

import { Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { KmsError } from "../../src/errors.js";
import type { KmsProvider, RequestContext } from "../../src/provider/kms.js";
import { kmsServiceDefinition, type FinishedRequest } from "../../src/server/kms-service.js";
import { startServer, type RunningServer } from "../../src/server/server.js";
import { makeFolder } from "../support/token.js";
import { waitFor } from "../support/wait.js";

type Fields = Readonly<Record<string, unknown>>;

let folder: string;
let path: string;
let server: RunningServer;
let finished: FinishedRequest[];
let provider: KmsProvider;
const open: { close(): void }[] = [];

beforeEach(async () => {
  folder = makeFolder("server");
  path = join(folder, "kms.sock");
  finished = [];
  provider = {
    status: () => ({ healthz: "ok", keyId: "k" }),
    encrypt: (plaintext) =>
      Promise.resolve({
        ciphertext: Buffer.from(plaintext),
        keyId: "k",
        annotations: { "a.b": Buffer.of(1) },
      }),
    decrypt: ({ ciphertext }) => Promise.resolve(Buffer.from(ciphertext)),
  };
  const replaceable: KmsProvider = {
    status: () => provider.status(),
    encrypt: (plaintext, context) => provider.encrypt(plaintext, context),
    decrypt: (question, context) => provider.decrypt(question, context),
  };
  server = await startServer({ path, abstract: false, mode: 0o600 }, replaceable, (request) => {
    finished.push(request);
  });
});

afterEach(async () => {
  vi.useRealTimers();
  for (const one of open.splice(0)) one.close();
  await server.stop(0);
  rmSync(folder, { recursive: true, force: true });
});

const newClient = (): Client => {
  const client = new Client(`unix:${path}`, credentials.createInsecure(), {
    "grpc.default_authority": "localhost",
    // Otherwise clients in one process share their connection.
    "grpc.use_local_subchannel_pool": 1,
  });
  open.push(client);
  return client;
};

interface Call {
  readonly answer: Promise<Fields>;
  cancel(): void;
}

/** `raw` is sent as it is, in the place of a message. */
const start = (client: Client, method: string, fields: Fields, raw?: Buffer): Call => {
  const rpc = kmsServiceDefinition()[method];
  if (rpc === undefined) throw new TypeError(method);
  const serialize = raw === undefined ? rpc.requestSerialize : () => raw;
  let cancel = (): void => undefined;
  const answer = new Promise<Fields>((resolve, reject) => {
    const done = (error: ServiceError | null, value?: unknown): void => {
      if (error === null) resolve(value as Fields);
      else reject(error);
    };
    const call = client.makeUnaryRequest(
      rpc.path,
      serialize,
      rpc.responseDeserialize,
      fields,
      new Metadata(),
      done,
    );
    cancel = () => {
      call.cancel();
    };
  });
  return { answer, cancel };
};
const ask = (client: Client, method: string, fields: Fields = {}): Promise<Fields> =>
  start(client, method, fields).answer;

const rawConnection = (): Socket => {
  const socket = connect(path);
  socket.on("error", () => undefined);
  open.push({ close: () => socket.destroy() });
  return socket;
};

describe("the three calls", () => {
  it("copy the fields and nothing else", async () => {
    const client = newClient();
    expect(await ask(client, "Status")).toMatchObject({ version: "v2", healthz: "ok", key_id: "k" });
    const sealed = await ask(client, "Encrypt", { plaintext: Buffer.from("seed"), uid: "u1" });
    expect(sealed).toMatchObject({ ciphertext: Buffer.from("seed"), key_id: "k" });
    expect(sealed["annotations"]).toEqual({ "a.b": Buffer.of(1) });
    const opened = await ask(client, "Decrypt", { ciphertext: Buffer.from("c"), uid: "u2", key_id: "other" });
    expect(opened).toMatchObject({ plaintext: Buffer.from("c") });
    expect(finished.map(({ operation, uid, keyId, error }) => [operation, uid, keyId, error])).toEqual([
      ["Status", "", "k", undefined],
      ["Encrypt", "u1", "k", undefined],
      ["Decrypt", "u2", "other", undefined],
    ]);
  });

  it("hand on what a provider gets and gives, then wipe it", async () => {
    let got: Uint8Array = Buffer.alloc(0);
    const given = Buffer.from("plaintext");
    provider = {
      ...provider,
      encrypt: (plaintext) => {
        got = plaintext;
        return Promise.resolve({ ciphertext: Buffer.from("c"), keyId: "k", annotations: {} });
      },
      decrypt: () => Promise.resolve(given),
    };
    const client = newClient();
    await ask(client, "Encrypt", { plaintext: Buffer.from("seed"), uid: "u" });
    expect(got).toEqual(Buffer.alloc(4));
    const opened = await ask(client, "Decrypt", { ciphertext: Buffer.from("c"), uid: "u", key_id: "k" });
    expect(String(opened["plaintext"])).toBe("plaintext");
    expect(given).toEqual(Buffer.alloc(9));
  });

  it("answer a fault with its status and message, and a defect without its text", async () => {
    const client = newClient();
    provider = {
      status: () => {
        throw new KmsError("PIN_REFUSED", "the token refused the PIN");
      },
      encrypt: () => Promise.reject(new KmsError("OVERLOADED", "too many")),
      decrypt: () => Promise.reject(new TypeError("secret internals")),
    };
    await expect(ask(client, "Status")).rejects.toMatchObject({
      code: status.FAILED_PRECONDITION,
      details: "the token refused the PIN",
    });
    await expect(ask(client, "Encrypt", { plaintext: Buffer.of(1) })).rejects.toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
      details: "too many",
    });
    const defect = await ask(client, "Decrypt", { ciphertext: Buffer.of(1) }).catch(
      (error: unknown) => error,
    );
    expect(defect).toMatchObject({ code: status.INTERNAL });
    expect(String(defect)).not.toContain("secret internals");
    expect(finished.at(-1)?.error?.cause).toBeInstanceOf(TypeError);
  });

  it("tell the provider when the caller goes away", async () => {
    let context: RequestContext | undefined;
    let release = (): void => undefined;
    provider = {
      ...provider,
      decrypt: async (_question, its) => {
        context = its;
        await new Promise<void>((resolve) => (release = resolve));
        return Buffer.of(1);
      },
    };
    const call = start(newClient(), "Decrypt", { ciphertext: Buffer.of(1), key_id: "k" });
    await waitFor(() => context !== undefined);
    expect(context?.cancelled).toBe(false);
    call.cancel();
    await expect(call.answer).rejects.toMatchObject({ code: status.CANCELLED });
    await waitFor(() => context?.cancelled === true);
    release();
    await waitFor(() => finished.length === 1);
  });
});

describe("hostile peers", () => {
  it("get an error for bytes that are no message, and for one that is too long", async () => {
    const client = newClient();
    for (const method of ["Encrypt", "Decrypt"]) {
      const garbage = start(client, method, {}, Buffer.alloc(50, 0xff)).answer;
      await expect(garbage).rejects.toMatchObject({ code: status.INTERNAL });
      const long = start(client, method, {
        ciphertext: Buffer.alloc(70_000),
        plaintext: Buffer.alloc(70_000),
      });
      await expect(long.answer).rejects.toMatchObject({ code: status.RESOURCE_EXHAUSTED });
    }
    expect(finished).toEqual([]);
    expect(await ask(client, "Status")).toMatchObject({ healthz: "ok" });
  });

  it("get UNIMPLEMENTED for another method", async () => {
    const client = newClient();
    const session = http2.connect("http://localhost", { createConnection: () => rawConnection() });
    session.on("error", () => undefined);
    const stream = session.request({
      ":method": "POST",
      ":path": "/v2.KeyManagementService/Steal",
      "content-type": "application/grpc",
      te: "trailers",
    });
    const headers = await new Promise<http2.IncomingHttpHeaders>((resolve) =>
      stream.once("response", resolve),
    );
    expect(headers["grpc-status"]).toBe(String(status.UNIMPLEMENTED));
    session.destroy();
    expect(await ask(client, "Status")).toMatchObject({ healthz: "ok" });
  });

  const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  const SETTINGS = "\0\0\0\x04\0\0\0\0\0";
  it.each([
    ["random bytes", Buffer.from("\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".repeat(40), "latin1")],
    ["HTTP/1", Buffer.from("POST /v2.KeyManagementService/Status HTTP/1.1\r\nHost: x\r\n\r\n")],
    ["a preface and no frame", Buffer.from(PREFACE + "\xff".repeat(400), "latin1")],
    [
      "headers that do not decode",
      Buffer.from(`${PREFACE}${SETTINGS}\0\0\x04\x01\x05\0\0\0\x01\xff\xff\xff\xff`, "latin1"),
    ],
    [
      "a continuation of nothing",
      Buffer.from(`${PREFACE}${SETTINGS}\0\0\x01\x09\x04\0\0\0\x01\x82`, "latin1"),
    ],
    [
      "a window that overflows",
      Buffer.from(`${PREFACE}${SETTINGS}${"\0\0\x04\x08\0\0\0\0\0\x7f\xff\xff\xff".repeat(3)}`, "latin1"),
    ],
  ])("do not disturb the others with %s", async (_what, bytes) => {
    const client = newClient();
    await ask(client, "Status");
    const socket = rawConnection();
    const noticed = new Promise((resolve) => socket.once("close", resolve).once("data", resolve));
    socket.write(bytes);
    await noticed;
    socket.destroy();
    expect(await ask(client, "Status")).toMatchObject({ healthz: "ok" });
    expect(await ask(newClient(), "Status")).toMatchObject({ healthz: "ok" });
  });

  it("are cut off when their HTTP/2 has broken down and they answer no ping", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval"] });
    const broken = rawConnection();
    const noticed = new Promise((resolve) => broken.once("data", resolve));
    broken.write(Buffer.from(`${PREFACE}${SETTINGS}\0\0\x01\x09\x04\0\0\0\x01\x82`, "latin1"));
    await noticed;
    const ended = new Promise((resolve) => broken.once("close", resolve));
    await vi.advanceTimersByTimeAsync(40_001);
    await ended;
  });

  it.each(["", "PRI * HTTP/2.0\r\n"])("are cut off ten seconds after %j alone", async (begun) => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const silent = rawConnection();
    silent.write(begun);
    const talking = http2.connect("http://localhost", { createConnection: () => rawConnection() });
    talking.on("error", () => undefined);
    const connected = new Promise((resolve) => silent.once("connect", resolve));
    await Promise.all([connected, new Promise((resolve) => talking.once("remoteSettings", resolve))]);
    silent.resume();
    const ended = new Promise((resolve) => silent.once("close", resolve));
    await vi.advanceTimersByTimeAsync(9_999);
    expect(silent.destroyed).toBe(false);
    await vi.advanceTimersByTimeAsync(2);
    await ended;
    expect(talking.destroyed).toBe(false);
    talking.destroy();
  });
});

describe("connections", () => {
  it("are served beside each other", async () => {
    const clients = Array.from({ length: 8 }, newClient);
    const answers = await Promise.all(
      clients.flatMap((client) => [ask(client, "Status"), ask(client, "Status")]),
    );
    expect(answers).toHaveLength(16);
  });
});

describe("stopping", () => {
  it("removes the socket at once, lets what is under way end, and takes nothing new", async () => {
    let release: (() => void) | undefined;
    provider = {
      ...provider,
      decrypt: async () => {
        await new Promise<void>((resolve) => (release = resolve));
        return Buffer.from("late");
      },
    };
    const underWay = ask(newClient(), "Decrypt", { ciphertext: Buffer.of(1), key_id: "k" });
    await waitFor(() => release !== undefined);
    const stopped = server.stop(30_000);
    expect(existsSync(path)).toBe(false);
    await expect(ask(newClient(), "Status")).rejects.toMatchObject({ code: status.UNAVAILABLE });
    release?.();
    expect(String((await underWay)["plaintext"])).toBe("late");
    await stopped;
  });

  it("does not wait for ever", async () => {
    let started = false;
    provider = {
      ...provider,
      decrypt: () => {
        started = true;
        return new Promise(() => undefined);
      },
    };
    const underWay = ask(newClient(), "Decrypt", { ciphertext: Buffer.of(1), key_id: "k" });
    const ended = expect(underWay).rejects.toMatchObject({ code: expect.any(Number) as number });
    await waitFor(() => started);
    await server.stop(1);
    await ended;
  });
});

describe("a live socket", () => {
  const second = (at = path): Promise<RunningServer> =>
    startServer({ path: at, abstract: false, mode: 0o600 }, provider, () => undefined);

  it("is told apart from one that speaks something else", async () => {
    const other = createServer((socket) => {
      socket.on("error", () => undefined);
      socket.end("220 mail ready\r\n");
    });
    open.push(other);
    const taken = join(folder, "other.sock");
    await new Promise<void>((resolve) => other.listen(taken, resolve));
    await expect(second(taken)).rejects.toThrow(/a process that does not speak KMS v2 listens there/);
  });

  it("is told by the key_id that answers there, or by its error", async () => {
    await expect(second()).rejects.toThrow(/a KMS plugin answers there with key_id k;/);
    provider = {
      ...provider,
      status: () => {
        throw new KmsError("HSM_UNAVAILABLE", "the HSM is away");
      },
    };
    await expect(second()).rejects.toThrow(/in use: a process answers there with .*the HSM is away/);
  });
});
