// The section of the evidence page about the last rehearsal of disaster recovery.
import { html, type Html } from "../page/html.js";
import type { EvidenceFacts } from "./facts.js";
import { notCollected, table } from "./table.js";

const OUTCOMES = { passed: "ok", failed: "fail", "not rehearsed": "warn" } as const;

/** Returns the section. */
export function drillSection({ drill }: EvidenceFacts): Html {
  if (drill === undefined) {
    return notCollected("Rehearsed recovery", "--drill, the report of `drill --to`");
  }
  const { startedAt, host, seconds, passed, snapshot, tokens, steps, failures } = drill;
  const failed = failures.reduce((sum, { objects }) => sum + objects, 0);
  return html`<h2>Rehearsed recovery</h2>
    <p class="${passed ? "ok" : "fail"}">
      ${passed ? "Everything that was rehearsed can be read." : `The rehearsal failed; ${failed} objects cannot be read.`}
    </p>
    <p>
      At ${startedAt} on ${host}, in ${seconds.toFixed(1)} s:
      ${(snapshot.objects ?? 0).toLocaleString("en-US")} objects of the snapshot ${snapshot.file}, written
      ${snapshot.modifiedAt},
      ${snapshot.sha256 === null ? "not sound" : html`SHA-256 <code>${snapshot.sha256}</code>`}, with
      ${tokens.map(({ label, serial }) => `token ${label} (serial number ${serial})`).join(", ") || "no token"}.
    </p>
    ${table(
      ["Step", "Result", "Time", "Detail"],
      steps.map(({ step, outcome, seconds: time, detail }) => [
        step,
        html`<span class="${OUTCOMES[outcome]}">${outcome}</span>`,
        time === null ? "-" : `${time.toFixed(2)} s`,
        detail,
      ]),
    )}
    ${
      failures.length > 0 &&
      table(
        ["Objects that cannot be read", "Reason", "Such as"],
        failures.map(({ objects, reason, keys }) => [objects, reason, keys[0] ?? ""]),
      )
    }`;
}
