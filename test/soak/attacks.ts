// The attacks of a local user, each as a plan for attacker.mjs. An HTTP/2 request consists of the frames of one stream,
// which the attacker numbers.

import {
  CONTINUATION,
  callHeaders,
  DATA,
  END_HEADERS,
  END_STREAM,
  field,
  frame,
  grpcMessage,
  header,
  HEADERS,
  OPENING,
  PING,
  PREFACE,
  RST_STREAM,
  rpc,
  SETTINGS,
  uint32,
} from "../support/http2-frames.js";

export interface Plan {
  readonly target: { readonly path: string } | { readonly host: string; readonly port: number };
  /** Whether it is HTTP/1, which has no streams. */
  readonly http: boolean;
  readonly connections: number;
  /** The first bytes of a connection, in base64. */
  readonly opening: string;
  /** Sent repeatedly, in base64. */
  readonly request: string;
  /** Maximum number of requests on one connection; `inFlight` is the maximum number without an answer. */
  readonly requests: number;
  readonly inFlight: number;
  readonly reads: boolean;
  /** Pause between two requests in ms, whatever the answers; 0 to send as many as possible. */
  readonly dripMs: number;
  /** Pause between the moments at which all connections send together, in ms; 0 to send as soon as possible. */
  readonly beatMs: number;
  /** Time after which the attacker closes a connection itself; -1 for never. */
  readonly lifeMs: number;
}

export type Attack = (target: Plan["target"]) => Plan;

interface Shape extends Partial<Omit<Plan, "target" | "opening" | "request">> {
  readonly opening?: Buffer;
  readonly request?: Buffer;
}

const MANY = 1_000_000;
/** The number that the plugin advertises and that gRPC's clients keep to. */
const STREAMS = 100;

const attack =
  (shape: Shape): Attack =>
  (target) => ({
    http: false,
    connections: 8,
    requests: MANY,
    inFlight: STREAMS,
    reads: true,
    dripMs: 0,
    beatMs: 0,
    lifeMs: -1,
    ...shape,
    target,
    opening: (shape.opening ?? OPENING).toString("base64"),
    request: (shape.request ?? Buffer.alloc(0)).toString("base64"),
  });

const settings = (...pairs: readonly (readonly [number, number])[]): Buffer =>
  frame(
    SETTINGS,
    0,
    0,
    Buffer.concat(pairs.map(([name, value]) => Buffer.concat([Buffer.of(0, name), uint32(value)]))),
  );
const INITIAL_WINDOW_SIZE = 4;
const SETTINGS_ACK = frame(SETTINGS, 1, 0);
const ZERO_WINDOW = Buffer.concat([PREFACE, settings([INITIAL_WINDOW_SIZE, 0]), SETTINGS_ACK]);

const STATUS = rpc("Status", Buffer.alloc(0));
const UNKNOWN_KEY_ID = rpc(
  "Decrypt",
  Buffer.concat([
    field(1, Buffer.concat([Buffer.of(1, 1), Buffer.alloc(60, 7)])),
    field(2, Buffer.from("uid")),
    field(3, Buffer.from("no-such-key")),
  ]),
);
const UNFINISHED = Buffer.concat([
  frame(HEADERS, END_HEADERS, 1, callHeaders("Encrypt")),
  frame(DATA, 0, 1, grpcMessage(Buffer.alloc(4_000), 0, 30_000)),
]);
const COMMAS = rpc("Status", Buffer.alloc(0), { more: { "x-bin": ",".repeat(16_000) } });
const BIG_HEADERS = Buffer.concat([
  frame(HEADERS, 0, 1, callHeaders("Status")),
  ...[1, 2, 3].map((number) => frame(CONTINUATION, 0, 1, header(`x${number}-bin`, ",".repeat(16_000)))),
  frame(CONTINUATION, END_HEADERS, 1, header("y", "y".repeat(5_000))),
  frame(DATA, END_STREAM, 1, grpcMessage(Buffer.alloc(0))),
]);
const RESET = Buffer.concat([
  frame(HEADERS, END_HEADERS, 1, callHeaders("Decrypt")),
  frame(RST_STREAM, 0, 1, uint32(8)),
]);
const get = (path: string): Buffer => Buffer.from(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
const HTTP = { http: true, opening: Buffer.alloc(0) };

/** Attacks on the plugin's socket, by users who may open it. */
export const SOCKET_ATTACKS = {
  "six connections with a zero window": attack({
    connections: 6,
    opening: ZERO_WINDOW,
    request: STATUS,
    inFlight: 1_000,
  }),
  "sixty connections with a zero window that keep to the limit": attack({
    connections: 60,
    opening: ZERO_WINDOW,
    request: STATUS,
  }),
  "a hundred connections with a zero window": attack({
    connections: 100,
    opening: ZERO_WINDOW,
    request: STATUS,
  }),
  "two hundred connections that all send at the same moment": attack({
    connections: 200,
    request: STATUS,
    beatMs: 500,
  }),
  "two hundred connections with a zero window that all send at the same moment": attack({
    connections: 200,
    opening: ZERO_WINDOW,
    request: STATUS,
    beatMs: 500,
  }),
  "eight connections that pipeline Status": attack({ request: STATUS }),
  "eight connections that pipeline Status beyond the limit": attack({ request: STATUS, inFlight: MANY }),
  "28 connections that ask for an unknown key_id": attack({ connections: 28, request: UNKNOWN_KEY_ID }),
  "large headers": attack({ connections: 4, request: BIG_HEADERS }),
  "headers of thousands of values": attack({ connections: 4, request: COMMAS }),
  "requests that do not end": attack({ connections: 60, request: UNFINISHED }),
  "requests that are reset at once": attack({ request: RESET, inFlight: MANY }),
  "methods that there are not": attack({ request: rpc("Steal", Buffer.alloc(0)) }),
  "answers that nobody reads": attack({ connections: 20, request: STATUS, inFlight: MANY, reads: false }),
  "a flood of PING": attack({
    connections: 200,
    request: frame(PING, 0, 0, Buffer.alloc(8)),
    inFlight: MANY,
  }),
  "three hundred silent connections": attack({ connections: 300, opening: Buffer.alloc(0) }),
  "three hundred connections that say hello": attack({ connections: 300 }),
  "headers that come byte by byte": attack({
    connections: 100,
    opening: Buffer.concat([OPENING, frame(HEADERS, 0, 1, callHeaders("Status"))]),
    request: frame(CONTINUATION, 0, 1, Buffer.alloc(0)),
    dripMs: 100,
  }),
  "connections that come and go": attack({ connections: 50, lifeMs: 0 }),
  "three hundred connections that come and go": attack({ connections: 300, lifeMs: 1 }),
  "silent connections that come and go": attack({ connections: 50, opening: Buffer.alloc(0), lifeMs: 0 }),
  "connections that go before they have an answer": attack({
    connections: 50,
    request: STATUS,
    requests: 1,
    lifeMs: 0,
  }),
  "connections that go after many requests": attack({ connections: 50, request: STATUS, lifeMs: 0 }),
  "connections that stay a moment without a request": attack({ connections: 300, lifeMs: 20 }),
};

/** Attacks on the HTTP endpoints, by any user. */
export const HTTP_ATTACKS = {
  "one connection that pipelines /metrics": attack({
    ...HTTP,
    connections: 1,
    request: get("/metrics"),
    inFlight: MANY,
  }),
  "twenty connections that read nothing": attack({
    ...HTTP,
    connections: 20,
    request: get("/metrics"),
    requests: 2_000,
    inFlight: MANY,
    reads: false,
  }),
  "one request a connection, again and again": attack({
    ...HTTP,
    connections: 60,
    request: Buffer.from("GET /keys HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    requests: 1,
  }),
  "a hundred silent connections": attack({ ...HTTP, connections: 100 }),
  "headers that come slowly": attack({
    ...HTTP,
    connections: 70,
    opening: Buffer.from("GET /livez HTTP/1.1\r\n"),
    request: Buffer.from("X-Slow: 1\r\n"),
    dripMs: 200,
  }),
};
