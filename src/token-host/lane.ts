// One lane of the token host: a thread that blocks on its socketpair, makes the calls of one request after another on
// its own session, and writes the replies. It has no event loop: a call that hangs blocks only this lane, and the
// plugin kills the process from outside.
import { readSync, writeSync } from "node:fs";
import type { MessagePort } from "node:worker_threads";
import type { CryptRequest } from "../hsm/port.js";
import {
  decodeControlRequest,
  decodeCryptBody,
  encodeControlReply,
  encodeFailure,
  encodeFrame,
  FrameReader,
  ReplyKind,
} from "../hsm/wire.js";
import {
  Op,
  type ControlOp,
  type ControlReply,
  type ControlRequest,
  type CryptOp,
  type NoFields,
  type WireFailure,
} from "../hsm/wire-calls.js";
import { RETURN_MEMORY_EVERY_MS, returnUnusedMemory } from "../unused-memory.js";
import { CKR_TABLE } from "./ckr-table.js";
import { pinVerdict, toFault, TokenFault } from "./ckr.js";
import { LaneExchange } from "./lane-exchange.js";
import { LaneToken, type SharedByLanes } from "./lane-token.js";
import type { SeenLogin } from "./login-state.js";
import type { SharedKek } from "./shared-kek.js";

/** What the main thread gives a lane. */
export interface LaneData {
  /** The lane's end of its socketpair. */
  readonly fd: number;
  /** Makes lanes load the library one after another. */
  readonly turn: Int32Array<SharedArrayBuffer>;
  readonly seenLogin: SeenLogin;
  /** What other lanes found before this one started. */
  readonly keks: readonly SharedKek[];
  /** The file of UNUSED_MEMORY_LIBRARY, which a lane's single file cannot find by itself. */
  readonly unusedMemory: string;
}

const CHUNK_BYTES = 64 * 1024;

let shared: SharedByLanes | undefined;

let opened: LaneToken | undefined;

/** In ms since the thread began; the first interval returns no memory, since a start has other work. */
let memoryReturnedAt = 0;

function token(): LaneToken {
  if (opened !== undefined) return opened;
  throw new TokenFault("the lane has not been opened", { fault: "device", code: "INTERNAL" });
}

function close(): NoFields {
  opened?.close();
  opened = undefined;
  return {};
}

type ControlHandlers = {
  readonly [O in ControlOp]: (request: ControlRequest<O>, secret: Buffer) => ControlReply<O>;
};

const CONTROL: ControlHandlers = {
  [Op.open]: (request) => {
    if (shared === undefined) throw new TypeError("the lane is not served");
    opened = new LaneToken(request, shared);
    return opened.description;
  },
  [Op.describe]: () => token().describe(),
  [Op.login]: (_request, secret) => {
    // pkcs11js takes the PIN as a string, which cannot be wiped; it lives until the next garbage collection.
    token().login(secret.toString("utf8"));
    return {};
  },
  [Op.setPin]: ({ presentBytes }, secret) => {
    const [present, fresh] = [secret.subarray(0, presentBytes), secret.subarray(presentBytes)];
    token().setPin(present.toString("utf8"), fresh.toString("utf8"));
    return {};
  },
  [Op.readKeks]: (request) => token().readKeks(request),
  [Op.setKeks]: (names) => {
    token().setKeks(names);
    return {};
  },
  [Op.probe]: (request) => token().probe(request),
  [Op.rights]: () => token().rights(),
  [Op.chooseKek]: (request) => token().chooseKek(request),
  [Op.generate]: (request) => token().generate(request),
  [Op.destroy]: (request) => token().destroy(request),
  [Op.findCopies]: (request) => token().findCopies(request),
  [Op.relabel]: (request) => token().relabel(request),
  [Op.trial]: (request) => token().trial(request),
  [Op.close]: close,
  [Op.end]: close,
};

const CRYPT: Readonly<Record<CryptOp, (request: CryptRequest) => Buffer>> = {
  [Op.encrypt]: (request) => token().encrypt(request),
  [Op.decrypt]: (request) => token().decrypt(request),
};

function isControlOp(kind: number): kind is ControlOp {
  return kind in CONTROL;
}

function isCryptOp(kind: number): kind is CryptOp {
  return kind in CRYPT;
}

/** Wipes the secret. */
function control<O extends ControlOp>(op: O, request: ControlRequest<O>, secret: Buffer): Buffer {
  try {
    return encodeControlReply(op, CONTROL[op](request, secret));
  } finally {
    secret.fill(0);
  }
}

/** Returns the body of the reply. */
function perform(kind: number, body: Buffer): Buffer {
  if (isCryptOp(kind)) return CRYPT[kind](decodeCryptBody(body));
  if (isControlOp(kind)) {
    const { request, secret } = decodeControlRequest(kind, body);
    return control(kind, request, secret);
  }
  throw new TokenFault(`unknown request ${kind}`, { fault: "device", code: "INTERNAL" });
}

function answer(id: number, kind: number, body: Buffer): Buffer {
  try {
    const before = opened?.correctedResults ?? 0;
    const reply = perform(kind, body);
    const repeated = (opened?.correctedResults ?? 0) > before;
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
    return encodeFrame(id, ReplyKind.failed, encodeFailure(failure));
  }
}

function writeAll(fd: number, frame: Buffer): void {
  for (let at = 0; at < frame.length;) at += writeSync(fd, frame, at);
  frame.fill(0);
}

/**
 * Returns unused memory to the kernel after a reading, but not after each one: every host makes readings, and no
 * request waits for them.
 */
function returnMemory(library: string): void {
  const now = performance.now();
  if (now - memoryReturnedAt < RETURN_MEMORY_EVERY_MS) return;
  memoryReturnedAt = now;
  returnUnusedMemory(library);
}

/**
 * Serves requests on the lane's socketpair until the plugin ends the lane, or closes its end.
 * @param port to the main thread, which passes messages on to the other lanes
 */
export function serveLane({ fd, turn, seenLogin, keks, unusedMemory }: LaneData, port: MessagePort): void {
  shared = { exchange: new LaneExchange(port, keks), turn, seenLogin };
  const reader = new FrameReader();
  const chunk = Buffer.alloc(CHUNK_BYTES);
  const lane = { ended: false };
  while (!lane.ended) {
    const length = readSync(fd, chunk);
    if (length === 0) return;
    reader.push(chunk.subarray(0, length), (id, kind, body) => {
      writeAll(fd, answer(id, kind, body));
      if (kind === Op.readKeks) returnMemory(unusedMemory);
      lane.ended = kind === Op.end;
    });
  }
}
