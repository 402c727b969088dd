// Decides which requests are audited: every Encrypt and Decrypt, and Status only if its answer changed, since it uses
// no KEK. A client is identified by its connection and its user-agent. Node does not expose the credentials of a unix
// socket's peer (SO_PEERCRED), so no process id or user is recorded.
import type { AuditEvent } from "./line.js";
import { clientText } from "../untrusted-text.js";

/** The facts of a finished request that are audited. */
export interface AuditedRequest {
  readonly operation: "Status" | "Encrypt" | "Decrypt";
  readonly uid: string;
  readonly keyId: string | undefined;
  readonly healthz?: string;
  readonly seconds: number;
  /** The connection, numbered within this process. */
  readonly peer: string;
  readonly userAgent: string | undefined;
}

/** Accepts events for the audit log. */
export interface AuditSink {
  record(event: AuditEvent): void;
}

/** Records the requests that are audited. */
export class RequestAudit {
  readonly #audit: AuditSink;
  #lastStatus = "";

  constructor(audit: AuditSink) {
    this.#audit = audit;
  }

  /** Records a finished request. @param outcome name of its gRPC status */
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
