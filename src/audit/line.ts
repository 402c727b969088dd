// Makes and verifies one line of the audit log, version 1: a JSON object that ends with the MAC of the previous line
// ("prev") and its own ("mac"), an HMAC-SHA-256 over all bytes before `,"mac":`. A changed line does not verify. A removed
// or moved line leaves a line whose "prev" does not match. Knows nothing about files.
import { createHmac, timingSafeEqual, type KeyObject } from "node:crypto";

const VERSION = 1;
const TRAILER = /^,"mac":"([0-9a-f]{64})"\}$/;
const TRAILER_LENGTH = ',"mac":""}'.length + 64;
/** Maximum length of a line in bytes; every field is truncated so that no line reaches it. */
export const MAX_LINE_BYTES = 64 * 1024;
/** "prev" of the first line. */
export const NO_MAC = "0".repeat(64);

interface RequestEvent {
  readonly event: "request";
  readonly operation: string;
  readonly uid?: string;
  readonly keyId?: string;
  readonly healthz?: string;
  /** A gRPC status. */
  readonly outcome: string;
  readonly ms: number;
  readonly peer: string;
  readonly userAgent?: string;
}

/** Start or stop of the serving plugin. The socket's mode shows who was able to connect. */
interface LifeEvent {
  readonly event: "started" | "stopped";
  readonly version: string;
  readonly socket: string;
  readonly mode: string;
  readonly pid: number;
}

/** What an operator did with a command. */
export interface OperatorEvent {
  readonly event: "operator";
  readonly operation: string;
  readonly keyId?: string;
  readonly reason?: string;
  /** "ok" or an error's code. */
  readonly outcome: string;
  readonly details?: Readonly<Record<string, string | number | boolean>>;
  readonly operator: Readonly<Record<string, string | number>>;
}

/** A custodian's share of the PIN. It names the share, which reveals nothing of it. */
export interface ShareEvent {
  readonly event: "share";
  /** "accepted", why it was refused, or "expired" for accepted shares that were too few in time. */
  readonly outcome: string;
  readonly set?: string;
  readonly epoch?: number;
  readonly share?: number;
}

/** An event. Its fields hold names and numbers, never data. */
export type AuditEvent =
  | RequestEvent
  | OperatorEvent
  | LifeEvent
  | ShareEvent
  /** An operator has locked the plugin; a token has logged in again after that. */
  | { readonly event: "locked" | "unlocked" }
  /** Events that were lost, for example because the disk was full. */
  | { readonly event: "gap"; readonly lost: number; readonly since: string; readonly reason: string }
  /** First line of a file that continues another one; `oldest` is the number of the oldest retained line. */
  | { readonly event: "rotated"; readonly from: string; readonly oldest: number }
  /** Lines that were missing when the log was continued. `first` and `last` are their numbers. */
  | { readonly event: "missing"; readonly first: number; readonly last: number }
  /** A crash left the previous line incomplete; its `bytes` bytes were removed. */
  | { readonly event: "recovered"; readonly bytes: number }
  /** The previous line does not verify, or lines were removed, so a new chain begins here. */
  | { readonly event: "restarted"; readonly reason: string };

/** An event and its time, in ms since the epoch. */
export interface TimedEvent {
  readonly time: number;
  readonly event: AuditEvent;
}

/** Number and MAC of a line. */
export interface ChainLink {
  readonly seq: number;
  readonly mac: string;
}

/** A line whose MAC verifies. */
export interface AuditLine extends ChainLink {
  readonly prev: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Returns the line that follows `before`, without a line feed. */
export function makeLine(
  { time, event }: TimedEvent,
  before: ChainLink,
  key: KeyObject,
): ChainLink & { readonly text: string } {
  const fields = {
    v: VERSION,
    seq: before.seq + 1,
    time: new Date(time).toISOString(),
    ...event,
    prev: before.mac,
  };
  const signed = JSON.stringify(fields).slice(0, -1);
  const mac = createHmac("sha256", key).update(signed).digest("hex");
  return { text: `${signed},"mac":"${mac}"}`, seq: fields.seq, mac };
}

/** Returns the line; undefined if the bytes are not a line of version 1, or its MAC does not verify under `key`. */
export function verifyLine(bytes: Buffer, key: KeyObject): AuditLine | undefined {
  const signed = bytes.subarray(0, Math.max(0, bytes.length - TRAILER_LENGTH));
  const [, mac] = TRAILER.exec(bytes.toString("latin1", signed.length)) ?? [];
  if (mac === undefined) return undefined;
  const right = createHmac("sha256", key).update(signed).digest();
  if (!timingSafeEqual(right, Buffer.from(mac, "hex"))) return undefined;
  const fields = JSON.parse(`${signed.toString("utf8")}}`) as Record<string, unknown>;
  const { v, seq, prev } = fields;
  if (v !== VERSION || typeof seq !== "number" || typeof prev !== "string") return undefined;
  return { seq, mac, prev, fields };
}
