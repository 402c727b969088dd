// The cost of a request, counted instead of timed: messages to the token host, calls into the vendor's library, log
// lines. An additional one costs time on every machine, and counts are reliable even on a busy machine.
// ../compose/plugin.test.ts tests which requests need the HSM.

import { Duplex } from "node:stream";

import { describe, expect, it } from "vitest";

import { LaneClient } from "../../src/hsm/hosts/lane-client.js";
import { encodeCryptFrame, encodeFrame, ReplyKind } from "../../src/hsm/wire.js";
import { Op } from "../../src/hsm/wire-calls.js";
import { RequestLog } from "../../src/observability/request-log.js";
import { PLAINTEXT, useFaultyToken } from "../support/faulty-token.js";

const REQUESTS = 20;

const faulty = useFaultyToken();

describe("a request that the HSM answers", () => {
  it("an HSM request takes one write, whose frame is zeroed, and one reply", () => {
    const written: Buffer[] = [];
    const frames: string[] = [];
    const replies: unknown[] = [];
    const host = new Duplex({
      read: () => undefined,
      write: (frame: Buffer, _encoding, done) => {
        written.push(frame);
        frames.push(frame.toString("hex"));
        done();
      },
    });
    const lane = new LaneClient(host, () => {
      throw new Error("the lane was disturbed");
    });
    const request = { keyId: "01.c0", mechanism: 1, aad: Buffer.of(1, 2), data: PLAINTEXT };
    const frame = encodeCryptFrame(1, Op.encrypt, request);
    lane.send(
      (id) => encodeCryptFrame(id, Op.encrypt, request),
      (reply) => replies.push(reply),
    );
    expect(frames).toEqual([frame.toString("hex")]);
    // Length, id, kind; mechanism, key_id, associated data and plaintext, each once.
    expect(frame.length).toBe(9 + 1 + 1 + 5 + 2 + 2 + PLAINTEXT.length);
    host.emit("data", encodeFrame(1, ReplyKind.done, Buffer.of(7)));
    expect(replies).toEqual([{ ok: true, body: Buffer.of(7) }]);
    return new Promise<void>((resolve) => {
      setImmediate(() => {
        expect(written).toEqual([Buffer.alloc(frame.length)]);
        resolve();
      });
    });
  });

  it("Decrypt makes one Init and one operation call, Encrypt two of each", async () => {
    const token = await faulty.start({ hosts: 1, sessions: 1 });
    const body = await faulty.encrypt(token);
    const requests = [
      {
        ask: () => faulty.encrypt(token),
        names: ["C_EncryptInit", "C_Encrypt", "C_DecryptInit", "C_Decrypt"],
      },
      { ask: () => faulty.decrypt(token, body), names: ["C_DecryptInit", "C_Decrypt"] },
    ];
    for (const { ask, names } of requests) {
      const before = { all: faulty.fault.calls(), own: names.map((name) => faulty.fault.calls(name)) };
      const messages = token.results.length;
      for (let request = 0; request < REQUESTS; request++) await ask();
      const own = names.map((name, at) => faulty.fault.calls(name) - (before.own[at] ?? 0));
      expect(own).toEqual(names.map(() => REQUESTS));
      expect(faulty.fault.calls() - before.all).toBe(names.length * REQUESTS);
      expect(token.results.length - messages).toBe(REQUESTS);
    }
  });
});

describe("a request that memory answers", () => {
  it("a cached Decrypt and an unchanged Status write no log line", () => {
    const lines: unknown[] = [];
    const line = (...said: unknown[]): void => {
      lines.push(said);
    };
    const log = new RequestLog({ debug: () => undefined, info: line, warn: line, error: line });
    const common = { uid: "u", keyId: "k", error: undefined, seconds: 0 };
    log.requestDone({ ...common, operation: "Status", healthz: "ok" });
    expect(lines.splice(0)).toHaveLength(1);
    for (let request = 0; request < REQUESTS; request++) {
      log.requestDone({ ...common, operation: "Decrypt" });
      log.requestDone({ ...common, operation: "Status", healthz: "ok" });
    }
    expect(lines).toEqual([]);
  });
});
