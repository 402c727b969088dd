// What the audit log keeps of requests: every Encrypt and Decrypt, and of Status only a changed answer, since
// it uses no key. Who asked is told as far as it can be known: the connection, and what the client calls itself.
// Node does not show a unix socket's peer credentials (SO_PEERCRED), so no process id or user is claimed.
import type { AuditEvent } from "./line.js";
import { clientText } from "../untrusted-text.js";

export interface AuditedRequest {
  readonly operation: "Status" | "Encrypt" | "Decrypt";
  readonly uid: string;
  readonly keyId: string | undefined;
  readonly healthz?: string;
  readonly seconds: number;
  /** The connection, by a number of this process. */
  readonly peer: string;
  readonly userAgent: string | undefined;
}

export interface AuditSink {
  record(event: AuditEvent): void;
}

export class RequestAudit {
  readonly #audit: AuditSink;
  #lastStatus = "";

  constructor(audit: AuditSink) {
    this.#audit = audit;
  }

  /** @param outcome the gRPC status' name */
  requestDone(request: AuditedRequest, outcome: string): void {
    const { operation, uid, keyId, healthz, seconds, peer, userAgent } = request;
    if (operation === "Status") {
      const answer = `${outcome} ${keyId ?? ""} ${healthz ?? ""}`;
      if (answer === this.#lastStatus) return;
      this.#lastStatus = answer;
    }
    this.#audit.record({
      event: "request",
      operation,
      ...(uid !== "" && { uid: clientText(uid) }),
      ...(keyId !== undefined && { keyId: clientText(keyId) }),
      ...(healthz !== undefined && { healthz: clientText(healthz) }),
      outcome,
      ms: Math.round(seconds * 1e6) / 1e3,
      peer,
      ...(userAgent !== undefined && { userAgent: clientText(userAgent) }),
    });
  }
}
