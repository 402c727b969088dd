// The frames between the plugin and a token host, encoded, divided and decoded.

import fc from "fast-check";
import { describe, expect, it } from "vitest";

import {
  decodeCryptBody,
  decodeControlRequest,
  encodeControlReply,
  encodeCryptFrame,
  encodeFailure,
  encodeFrame,
  encodeControlFrame,
  FRAME_HEADER_BYTES,
  FrameReader,
} from "../../src/hsm/wire.js";
import { Op } from "../../src/hsm/wire-calls.js";
import { decodeControlReply, decodeFailure } from "../../src/hsm/wire-replies.js";

interface Frame {
  readonly id: number;
  readonly kind: number;
  readonly body: Buffer;
}

function readAll(chunks: readonly Buffer[]): Frame[] {
  const frames: Frame[] = [];
  const reader = new FrameReader();
  for (const chunk of chunks) {
    reader.push(chunk, (id, kind, body) => frames.push({ id, kind, body: Buffer.from(body) }));
  }
  return frames;
}

const bytes = fc.uint8Array({ maxLength: 300 });

describe("the wire", () => {
  it("a reader returns the same frames however the stream is divided", () => {
    fc.assert(
      fc.property(fc.array(bytes, { maxLength: 6 }), fc.integer({ min: 1, max: 40 }), (bodies, size) => {
        const stream = Buffer.concat(bodies.map((body, id) => encodeFrame(id, 7, body)));
        const chunks: Buffer[] = [];
        for (let at = 0; at < stream.length; at += size) {
          chunks.push(Buffer.from(stream.subarray(at, at + size)));
        }
        const frames = readAll(chunks);
        return (
          frames.length === bodies.length &&
          frames.every((frame, at) => frame.body.equals(bodies[at] ?? new Uint8Array()))
        );
      }),
    );
  });

  it("a decoded request equals the encoded one", () => {
    fc.assert(
      fc.property(bytes, bytes, (aad, data) => {
        const frame = encodeCryptFrame(3, Op.encrypt, { keyId: "ab.c1", mechanism: 5, aad, data });
        const request = decodeCryptBody(frame.subarray(FRAME_HEADER_BYTES));
        expect(request).toMatchObject({ keyId: "ab.c1", mechanism: 5 });
        return Buffer.compare(request.aad, aad) === 0 && Buffer.compare(request.data, data) === 0;
      }),
    );
  });

  it("a secret follows the JSON of its request", () => {
    const frame = encodeControlFrame(1, Op.relabel, { keyId: "a", label: "ü" }, Buffer.from("1234"));
    const { request, secret } = decodeControlRequest(Op.relabel, frame.subarray(FRAME_HEADER_BYTES));
    expect([request, secret.toString()]).toEqual([{ keyId: "a", label: "ü" }, "1234"]);
  });

  it("a frame that is too long or too short is refused", () => {
    for (const length of [0, 4, 0xffffffff]) {
      const header = Buffer.alloc(FRAME_HEADER_BYTES);
      header.writeUInt32BE(length);
      expect(() => readAll([header])).toThrow(RangeError);
    }
  });

  it("a reader wipes the chunks that it has read", () => {
    const frame = encodeFrame(1, 1, Buffer.from("secret"));
    for (const at of [0, 3, FRAME_HEADER_BYTES + 2, frame.length]) {
      const chunks = [Buffer.from(frame.subarray(0, at)), Buffer.from(frame.subarray(at))];
      expect(readAll(chunks)).toMatchObject([{ id: 1 }]);
      expect(Buffer.concat(chunks)).toEqual(Buffer.alloc(frame.length));
    }
  });

  it("a reply is decoded only if it has the shape of its operation", () => {
    const kek = {
      keyId: "k",
      aliases: [],
      label: "kek",
      ckaId: "",
      kind: "aes",
      unprotected: [],
      remarks: [],
    } as const;
    const reading = { done: true, keks: [kek], objects: 1, unreadable: 0, unreadableReason: "" } as const;
    const body = encodeControlReply(Op.readKeks, reading);
    expect(decodeControlReply(Op.readKeks, body)).toEqual(reading);
    for (const op of [Op.open, Op.login, Op.probe, Op.rights, Op.generate]) {
      expect(() => decodeControlReply(op, body)).toThrow("the token host's reply is malformed");
    }
    expect(() => decodeControlReply(Op.readKeks, body.subarray(0, -1))).toThrow("malformed");
    const failure = { code: "KEY_UNKNOWN", message: "gone", fault: "object" } as const;
    expect(decodeFailure(encodeFailure(failure))).toEqual(failure);
    expect(() => decodeFailure(body)).toThrow("malformed");
  });
});
