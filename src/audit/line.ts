// One line of the audit log, version 1: a JSON object that ends in the MAC of the line before ("prev") and its
// own ("mac"), an HMAC-SHA-256 over every byte that stands before `,"mac":`. So a line that was changed does not
// verify, and one that was removed or moved leaves a line whose "prev" fits nothing. Knows no files.
import { createHmac, timingSafeEqual, type KeyObject } from "node:crypto";

const VERSION = 1;
const TRAILER = /^,"mac":"([0-9a-f]{64})"\}$/;
const TRAILER_LENGTH = ',"mac":""}'.length + 64;
/** More than any line has: every field is cut before. */
export const MAX_LINE_BYTES = 64 * 1024;
/** "prev" of a line with none before it. */
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

/** Of the serving plugin. The socket's mode says who can have asked. */
interface LifeEvent {
  readonly event: "started" | "stopped";
  readonly version: string;
  readonly socket: string;
  readonly mode: string;
  readonly pid: number;
}

/** What a person did with a command. */
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

/** What happened, in fields that hold names and numbers, never data. */
export type AuditEvent =
  | RequestEvent
  | OperatorEvent
  | LifeEvent
  /** Lines that a full disk or a lost folder cost. */
  | { readonly event: "gap"; readonly lost: number; readonly since: string; readonly reason: string }
  /** The first line of a file that continues another one; `oldest` is the first line that retention has left. */
  | { readonly event: "rotated"; readonly from: string; readonly oldest: number }
  /** Lines that were missing when the log was continued. */
  | { readonly event: "missing"; readonly first: number; readonly last: number }
  /** The line before was cut off by a crash; so many of its bytes were removed. */
  | { readonly event: "recovered"; readonly bytes: number }
  /** The line before does not verify, so the chain begins anew. */
  | { readonly event: "restarted"; readonly reason: string };

export interface TimedEvent {
  readonly time: number;
  readonly event: AuditEvent;
}

/** The place of a line in the chain. */
export interface ChainLink {
  readonly seq: number;
  readonly mac: string;
}

export interface AuditLine extends ChainLink {
  readonly prev: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Returns the line, without its newline, that follows `before`. */
export function sealLine(
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

/** Returns undefined for what is no such line or does not carry the MAC that `key` gives it. */
export function openLine(bytes: Buffer, key: KeyObject): AuditLine | undefined {
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
