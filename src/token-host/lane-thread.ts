// One lane of the token host: a thread that blocks on its socketpair, makes the calls of one request after
// another on its own session, and writes the replies. It has no event loop: a call that hangs hangs this
// lane alone, and the plugin kills the process from outside.
import { readSync, writeSync } from "node:fs";
import { workerData } from "node:worker_threads";
import type { GenerateRequest } from "../hsm/port.js";
import {
  decodeCryptBody,
  decodeJsonBody,
  encodeFrame,
  encodeJsonBody,
  FrameReader,
  Op,
  ReplyKind,
  type DestroyRequest,
  type OpenRequest,
  type ProbeRequest,
  type ReadRequest,
  type RelabelRequest,
  type WireFailure,
} from "../hsm/wire.js";
import { CKR_TABLE, pinVerdict, toFault, TokenFault } from "./ckr.js";
import { LaneToken } from "./lane-token.js";

const CHUNK_BYTES = 64 * 1024;

let opened: LaneToken | undefined;

function token(): LaneToken {
  if (opened !== undefined) return opened;
  throw new TokenFault("device", "INTERNAL", "the lane has not been opened");
}

const json = (body: Buffer): unknown => decodeJsonBody(body).value;

const HANDLERS: Readonly<Record<Op, (body: Buffer) => Buffer>> = {
  [Op.open]: (body) => {
    opened = new LaneToken(json(body) as OpenRequest);
    return encodeJsonBody(opened.description);
  },
  [Op.describe]: () => encodeJsonBody(token().describe()),
  [Op.login]: (body) => {
    const { secret } = decodeJsonBody(body);
    try {
      // pkcs11js takes the PIN as a string, which nobody can wipe; it lives until the next collection.
      token().login(secret.toString("utf8"));
    } finally {
      secret.fill(0);
    }
    return encodeJsonBody({});
  },
  [Op.readKeks]: (body) => encodeJsonBody(token().readKeks(json(body) as ReadRequest)),
  [Op.encrypt]: (body) => token().encrypt(decodeCryptBody(body)),
  [Op.decrypt]: (body) => token().decrypt(decodeCryptBody(body)),
  [Op.probe]: (body) => {
    const { keyId, choice } = json(body) as ProbeRequest;
    return encodeJsonBody(token().probe(keyId, choice));
  },
  [Op.generate]: (body) => encodeJsonBody(token().generate(json(body) as GenerateRequest)),
  [Op.destroy]: (body) => encodeJsonBody(token().destroy(json(body) as DestroyRequest)),
  [Op.relabel]: (body) => {
    const { keyId, label } = json(body) as RelabelRequest;
    return encodeJsonBody(token().relabel(keyId, label));
  },
  [Op.close]: () => {
    opened?.close();
    opened = undefined;
    return encodeJsonBody({});
  },
};

function isOp(kind: number): kind is Op {
  return kind in HANDLERS;
}

function answer(id: number, kind: number, body: Buffer): Buffer {
  try {
    if (!isOp(kind)) throw new TokenFault("device", "INTERNAL", `unknown request ${kind}`);
    const mended = opened?.mendedResults ?? 0;
    const reply = HANDLERS[kind](body);
    const repeated = (opened?.mendedResults ?? 0) > mended;
    const frame = encodeFrame(id, repeated ? ReplyKind.repeated : ReplyKind.done, reply);
    reply.fill(0);
    return frame;
  } catch (error) {
    const fault = toFault(error, "a request");
    const failure: WireFailure = {
      code: fault.code,
      message: fault.message,
      fault: fault.fault,
      ...(fault.rv === undefined ? {} : { rv: fault.rv, unknownRv: !(fault.rv in CKR_TABLE) }),
      ...(kind === Op.login && { pin: pinVerdict(fault) }),
    };
    return encodeFrame(id, ReplyKind.failed, encodeJsonBody(failure));
  }
}

function writeAll(fd: number, frame: Buffer): void {
  for (let at = 0; at < frame.length;) at += writeSync(fd, frame, at);
  frame.fill(0);
}

/** Serves until the plugin closes its end. */
function serve(fd: number): void {
  const reader = new FrameReader();
  const chunk = Buffer.alloc(CHUNK_BYTES);
  for (;;) {
    const length = readSync(fd, chunk);
    if (length === 0) return;
    reader.push(chunk.subarray(0, length), (id, kind, body) => {
      writeAll(fd, answer(id, kind, body));
    });
  }
}

serve((workerData as { fd: number }).fd);
