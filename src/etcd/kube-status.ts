// Explains in one line why the API server, or a proxy in front of it, refused a request, from the Status (meta/v1) or
// the proxy's page.
import { STATUS_CODES } from "node:http";
import { collapseSpaces, truncate } from "../untrusted-text.js";

const INVALID = 422;
const MAX_REFUSAL = 300;

interface KubeStatus {
  readonly kind?: unknown;
  readonly reason?: unknown;
  readonly message?: unknown;
  readonly details?: { readonly causes?: unknown } | null;
}

interface Cause {
  readonly field?: unknown;
  readonly message?: unknown;
}

/**
 * Returns the status code and the reason. Names invalid fields only, since the API server's message repeats their
 * values.
 */
export function describeRefusal(status: number, body: Buffer): string {
  const text = body.toString();
  const parsed = parseStatus(text);
  const reason = parsed === undefined ? foreignReason(text) : reasonOf(status, parsed);
  const line = `${status} ${reason || (STATUS_CODES[status] ?? "")}`;
  return truncate(collapseSpaces(line), MAX_REFUSAL);
}

function reasonOf(status: number, { reason, message, details }: KubeStatus): string {
  const causes = Array.isArray(details?.causes) ? (details.causes as (Cause | null)[]) : [];
  const fields = causes.flatMap((cause) => textOf(cause?.field) || []);
  const whole = textOf(message) || textOf(reason);
  if (status !== INVALID || fields.length === 0) {
    return whole || causes.map(messageOf).filter(Boolean).join("; ");
  }
  // The message of an admission policy has no field.
  const words = causes.flatMap((cause) => (textOf(cause?.field) === "" ? messageOf(cause) || [] : []));
  return [`invalid: ${fields.join(", ")}`, ...words].join("; ");
}

function messageOf(cause: Cause | null): string {
  return textOf(cause?.message);
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function parseStatus(text: string): KubeStatus | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null ? parsed : undefined;
  } catch {
    return undefined;
  }
}

/** Returns the title of an HTML page, or the beginning of a text. */
function foreignReason(text: string): string {
  const title = /<title[^>]*>([^<]*)<\/title>/i.exec(text)?.[1];
  if (title !== undefined) return `${title} (a page that is not from an API server)`;
  return /^\s*</.test(text) ? "(a page that is not from an API server)" : text;
}
