// The gRPC server on its socket with a provider that the test controls: fields, faults, cancellation, stopping.

import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";

import { status } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";

import { KmsError } from "../../src/errors.js";
import type { RequestContext } from "../../src/provider/kms.js";
import type { RunningServer } from "../../src/server/server.js";
import { ask, useKmsServer, start } from "../support/kms-server.js";
import { waitFor } from "../support/wait.js";

const server = useKmsServer();

describe("the three calls", () => {
  it("the three calls copy the fields and nothing else", async () => {
    const client = server.client();
    expect(await ask(client, "Status")).toMatchObject({ version: "v2", healthz: "ok", key_id: "k" });
    const sealed = await ask(client, "Encrypt", { plaintext: Buffer.from("seed"), uid: "u1" });
    expect(sealed).toMatchObject({ ciphertext: Buffer.from("seed"), key_id: "k" });
    expect(sealed["annotations"]).toEqual({ "a.b": Buffer.of(1) });
    const opened = await ask(client, "Decrypt", { ciphertext: Buffer.from("c"), uid: "u2", key_id: "other" });
    expect(opened).toMatchObject({ plaintext: Buffer.from("c") });
    expect(server.finished.map(({ operation, uid, keyId, error }) => [operation, uid, keyId, error])).toEqual(
      [
        ["Status", "", "k", undefined],
        ["Encrypt", "u1", "k", undefined],
        ["Decrypt", "u2", "other", undefined],
      ],
    );
  });

  it("the three calls pass on plaintexts and then wipe them", async () => {
    let got: Uint8Array = Buffer.alloc(0);
    const given = Buffer.from("plaintext");
    server.provider = {
      ...server.provider,
      encrypt: (plaintext) => {
        got = plaintext;
        return Promise.resolve({ ciphertext: Buffer.from("c"), keyId: "k", annotations: {} });
      },
      decrypt: () => Promise.resolve(given),
    };
    const client = server.client();
    await ask(client, "Encrypt", { plaintext: Buffer.from("seed"), uid: "u" });
    expect(got).toEqual(Buffer.alloc(4));
    const opened = await ask(client, "Decrypt", { ciphertext: Buffer.from("c"), uid: "u", key_id: "k" });
    expect(String(opened["plaintext"])).toBe("plaintext");
    expect(given).toEqual(Buffer.alloc(9));
  });

  it("a call answers an error with its status and message, and a defect without its text", async () => {
    const client = server.client();
    server.provider = {
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
    expect(server.finished.at(-1)?.error?.cause).toBeInstanceOf(TypeError);
  });

  it("a call reports to the provider that the client has gone", async () => {
    let context: RequestContext | undefined;
    let release = (): void => undefined;
    server.provider = {
      ...server.provider,
      decrypt: async (_question, its) => {
        context = its;
        await new Promise<void>((resolve) => (release = resolve));
        return Buffer.of(1);
      },
    };
    const call = start(server.client(), "Decrypt", { ciphertext: Buffer.of(1), key_id: "k" });
    await waitFor(() => context !== undefined);
    expect(context?.cancelled).toBe(false);
    call.cancel();
    await expect(call.answer).rejects.toMatchObject({ code: status.CANCELLED });
    await waitFor(() => context?.cancelled === true);
    release();
    await waitFor(() => server.finished.length === 1);
  });
});

describe("connections", () => {
  it("connections are served at the same time", async () => {
    const clients = Array.from({ length: 8 }, () => server.client());
    const answers = await Promise.all(
      clients.flatMap((client) => [ask(client, "Status"), ask(client, "Status")]),
    );
    expect(answers).toHaveLength(16);
  });
});

describe("stopping", () => {
  it("a stop removes the socket at once, finishes open requests, and refuses new ones", async () => {
    let release: (() => void) | undefined;
    server.provider = {
      ...server.provider,
      decrypt: async () => {
        await new Promise<void>((resolve) => (release = resolve));
        return Buffer.from("late");
      },
    };
    const underWay = ask(server.client(), "Decrypt", { ciphertext: Buffer.of(1), key_id: "k" });
    await waitFor(() => release !== undefined);
    const stopped = server.stop(30_000);
    expect(existsSync(server.path)).toBe(false);
    await expect(ask(server.client(), "Status")).rejects.toMatchObject({ code: status.UNAVAILABLE });
    release?.();
    expect(String((await underWay)["plaintext"])).toBe("late");
    await stopped;
  });

  it("a stop of the server does not wait forever", async () => {
    let started = false;
    server.provider = {
      ...server.provider,
      decrypt: () => {
        started = true;
        return new Promise(() => undefined);
      },
    };
    const underWay = ask(server.client(), "Decrypt", { ciphertext: Buffer.of(1), key_id: "k" });
    const ended = expect(underWay).rejects.toMatchObject({ code: expect.any(Number) as number });
    await waitFor(() => started);
    await server.stop(1);
    await ended;
  });
});

describe("a live socket", () => {
  const second = (at = server.path): Promise<RunningServer> => server.startAnother(at);

  it("a live socket is distinguished from one that does not speak KMS v2", async () => {
    const other = createServer((socket) => {
      socket.on("error", () => undefined);
      socket.end("220 mail ready\r\n");
    });
    server.own(other);
    const taken = join(server.folder, "other.sock");
    await new Promise<void>((resolve) => other.listen(taken, resolve));
    await expect(second(taken)).rejects.toThrow(/a process that does not speak KMS v2 listens there/);
  });

  it("a live socket is described by its key_id or by its error", async () => {
    await expect(second()).rejects.toThrow(/a KMS plugin answers there with key_id k;/);
    server.provider = {
      ...server.provider,
      status: () => {
        throw new KmsError("HSM_UNAVAILABLE", "the HSM is away");
      },
    };
    await expect(second()).rejects.toThrow(/in use: a process answers there with .*the HSM is away/);
  });
});
