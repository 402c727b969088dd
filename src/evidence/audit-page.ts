// The sections of the evidence page that come from the audit log: whether its chain verifies, what people did to KEKs, and how
// many requests each KEK served.
import { html, type Html } from "../page/html.js";
import { truncate } from "../untrusted-text.js";
import type { EvidenceFacts } from "./facts.js";
import { table } from "./table.js";

/** Events that the page shows; the file has all. */
const MAX_SHOWN = 200;
const MAX_PROBLEMS = 20;
const MAX_TEXT = 160;

/** Returns the sections. */
export function auditSections(audit: EvidenceFacts["audit"]): Html {
  if (audit === undefined) {
    return html`<h2>Audit log</h2>
      <p class="warn">No audit log is configured (audit.file).</p>`;
  }
  const { report, extract } = audit;
  const { problems, remarks, lines, first, last } = report;
  return html`<h2>Audit log</h2>
    <p class="${problems.length === 0 ? "ok" : "fail"}">
      ${problems.length === 0 ? "Every line verifies" : `${problems.length} problems were found`}: ${lines}
      lines,
      ${first === null ? "none" : `from number ${first.seq} (${first.time}) to number ${last?.seq ?? first.seq} (${last?.time ?? ""})`}.
    </p>
    ${[...problems, ...remarks]
      .slice(0, MAX_PROBLEMS)
      .map(({ file, line, problem }) => html`<p class="warn">${file}, line ${line}: ${problem}</p>`)}
    <h2>Changes and approvals</h2>
    ${changes(extract.events)}
    ${
      extract.omitted > 0 &&
      html`<p class="warn">
        ${extract.omitted.toLocaleString("en-US")} later events were left out, here and in audit-events.jsonl:
        the log has too many. Read them in the log itself.
      </p>`
    }
    <h2>Requests</h2>
    ${table(
      ["Month", "Operation", "key_id", "Outcome", "Number"],
      extract.requests.map(({ month, operation, keyId, outcome, count }) => [
        month,
        operation,
        keyId,
        outcome,
        count,
      ]),
    )}`;
}

function changes(events: readonly string[]): Html {
  const rows = events.flatMap((line) => {
    const fields = JSON.parse(line) as Readonly<Record<string, unknown>>;
    if (["started", "stopped", "rotated"].includes(String(fields["event"]))) return [];
    return [
      [
        text(fields["time"]),
        text(fields["operation"] ?? fields["event"]),
        text(fields["outcome"]),
        who(fields),
        what(fields),
      ],
    ];
  });
  if (rows.length === 0) return html`<p>None.</p>`;
  const hidden = rows.length - MAX_SHOWN;
  return html`${table(["Time", "Operation", "Outcome", "Who", "Details"], rows.slice(-MAX_SHOWN))}
  ${hidden > 0 && html`<p class="quiet">and ${hidden} earlier ones, in audit-events.jsonl</p>`}`;
}

function who({ operator }: Readonly<Record<string, unknown>>): string {
  if (typeof operator !== "object" || operator === null) return "";
  const { user, loginUser, host } = operator as Readonly<Record<string, unknown>>;
  return [text(loginUser ?? user), text(host)].filter((part) => part !== "").join(" on ");
}

function what({ keyId, reason, details, share, set }: Readonly<Record<string, unknown>>): string {
  const parts = {
    ...(keyId !== undefined && { keyId }),
    ...(reason !== undefined && { reason }),
    ...(share !== undefined && { set, share }),
  };
  return [
    ...Object.entries(parts).map(([name, value]) => `${name} ${text(value)}`),
    ...(details === undefined ? [] : [truncate(JSON.stringify(details), MAX_TEXT)]),
  ].join("; ");
}

function text(value: unknown): string {
  return typeof value === "string" || typeof value === "number" ? truncate(String(value), MAX_TEXT) : "";
}
