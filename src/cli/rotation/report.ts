// The output of `rotation run`: a line for each event while it runs, and the result. JSON has one object a line.
import type { Report, RotationEvent } from "../../admin/rotation/events.js";
import { stepAfter, type RotationKek, type Step } from "../../admin/rotation/position.js";
import type { RunResult } from "../../admin/rotation/run-steps.js";
import type { OutputFormat, Terminal } from "../output.js";
import { formatTable } from "../table.js";

/** Width of the longest step's name. */
const STEP_WIDTH = 9;

/** Returns what prints the events. */
export function reporter(output: OutputFormat, terminal: Terminal): Report {
  return (event) => {
    terminal.out(output === "json" ? JSON.stringify(event) : lineOf(event));
  };
}

function lineOf({ step, event, detail, until, next }: RotationEvent): string {
  const name = step.padEnd(STEP_WIDTH);
  if (event === "done") return `${name}  done: ${detail}`;
  if (event === "postponed") return `${name}  postponed: ${detail}`;
  const limit = until === null ? "" : `, until ${until}`;
  return `${name}  ${detail}${limit}; next: ${next ?? "nothing"}`;
}

export interface RunEnd extends RunResult {
  /** ms since the epoch. */
  readonly startedAt: number;
  readonly last: Step;
}

/** Prints the result of a run that was completed. */
export function reportEnd(end: RunEnd, output: OutputFormat, terminal: Terminal): void {
  const { to, destroyed, postponed, startedAt, last } = end;
  const finishedAt = Date.now();
  if (output === "json") {
    const report = {
      event: "report",
      startedAt: iso(startedAt),
      finishedAt: iso(finishedAt),
      last,
      next: postponed === undefined ? (stepAfter(last) ?? null) : "retire",
      kek: to === undefined ? null : { keyId: to.keyIds[0], label: to.label, state: to.state },
      destroyed: destroyed.map(({ keyIds: [keyId], label }) => ({ keyId, label })),
      postponed:
        postponed === undefined
          ? null
          : { keyId: postponed.kek.keyIds[0], notBefore: iso(postponed.notBefore) },
    };
    terminal.out(JSON.stringify(report));
    return;
  }
  const rows = [
    ...(to === undefined ? [] : [[to.state, nameOf(to)]]),
    ...destroyed.map((kek) => ["destroyed", nameOf(kek)]),
    ...(postponed === undefined
      ? []
      : [["to destroy", `${nameOf(postponed.kek)} from ${iso(postponed.notBefore)} on`]]),
    ["took", `${Math.round((finishedAt - startedAt) / 1000)} s, until the step ${last}`],
  ];
  terminal.out(formatTable(["", ""], rows).trimStart());
}

function nameOf({ label, keyIds: [keyId] }: RotationKek): string {
  return `"${label}" (key_id ${keyId})`;
}

function iso(time: number): string {
  return new Date(time).toISOString();
}
