// The report of a drill for people: what was rehearsed with which snapshot and token, each step, and what could not be read.
import type { DrillReport } from "../../evidence/drill-report.js";
import { oneLine } from "../../untrusted-text.js";
import { formatTable } from "../table.js";

/** More are in the JSON report. */
const MAX_SHOWN = 20;

/** Returns the text. @param columns of the terminal, which the text must fit; default: those of standard output */
export function describeDrill(report: DrillReport, columns?: number): string {
  return [
    ...subject(report),
    "",
    stepTable(report, columns),
    "",
    ...unreadable(report),
    ...notProven(report),
    conclusion(report),
  ].join("\n");
}

function subject({
  snapshot,
  tokens,
  programs,
  isolation,
  host,
  startedAt,
  toolVersion,
}: DrillReport): string[] {
  const { file, bytes, modifiedAt, sha256 } = snapshot;
  const digest = sha256 === null ? "" : `, sha256:${sha256}`;
  return [
    `drill    ${startedAt} on ${oneLine(host)}, kms-pkcs11 ${toolVersion}`,
    `snapshot ${oneLine(file)}, ${bytes} bytes, written ${modifiedAt}${digest}`,
    ...tokens.map(
      ({ label, serial, model, live }) =>
        `token    ${oneLine(label)}, serial number ${oneLine(serial)}, ${oneLine(model)}${LIVE[live]}`,
    ),
    ...programs.map(({ name, version, path }) => `program  ${name} ${version}, ${oneLine(path)}`),
    ...(isolation === null ? [] : [`network  ${NETWORK[isolation]}`]),
  ];
}

const LIVE = {
  no: "; not a live one",
  "same serial number": "; the serial number of a live one",
  "not compared": "",
} as const;

const NETWORK = {
  "network namespace": "a namespace of its own, without a connection to any other network",
  loopback: "loopback of this machine, since this user may not make a network namespace",
} as const;

function stepTable({ steps }: DrillReport, columns: number | undefined): string {
  return formatTable(
    ["STEP", "RESULT", "TIME", "DETAIL"],
    steps.map(({ step, outcome, seconds, detail }) => [
      step,
      outcome,
      seconds === null ? "-" : `${seconds.toFixed(2)} s`,
      detail,
    ]),
    columns,
  );
}

function unreadable({ keks, failures }: DrillReport): string[] {
  const bad = keks.filter(({ proven }) => !proven);
  return [
    ...firstOf(bad, "KEKs", ({ keyId, objects, detail }) => [
      `KEK ${keyId}, needed by ${objects} objects: ${oneLine(detail)}`,
    ]),
    ...firstOf(failures, "reasons", ({ reason, objects, keys }) => [
      `${objects} failed: ${oneLine(reason)}`,
      ...keys.map((key) => `  ${oneLine(key)}`),
      ...(objects > keys.length ? [`  and ${objects - keys.length} more`] : []),
    ]),
  ];
}

function notProven(report: DrillReport): string[] {
  return firstOf(report.notProven, "resources and providers", ({ resource, objects, provider, reason }) => [
    `not proven: ${objects} of ${oneLine(resource)} under ${oneLine(provider)}: ${oneLine(reason)}`,
  ]);
}

/** Returns the lines of the first entries, with the number of objects in the others. */
function firstOf<T extends { readonly objects: number }>(
  entries: readonly T[],
  what: string,
  linesOf: (entry: T) => readonly string[],
): string[] {
  const others = entries.slice(MAX_SHOWN);
  const objects = others.reduce((sum, one) => sum + one.objects, 0);
  return [
    ...entries.slice(0, MAX_SHOWN).flatMap(linesOf),
    ...(others.length > 0
      ? [`and ${objects} objects under ${others.length} more ${what}, which are in the JSON report`]
      : []),
  ];
}

function conclusion({ passed, complete, seconds, steps, failures }: DrillReport): string {
  const failed = failures.reduce((sum, { objects }) => sum + objects, 0);
  const left = steps.filter(({ outcome }) => outcome === "not rehearsed").map(({ step }) => step);
  const verdict = passed
    ? "passed: everything that was rehearsed can be read"
    : `failed: ${failed > 0 ? `${failed} objects cannot be read` : "see the steps above"}`;
  return `${verdict}; ${seconds.toFixed(1)} s${complete ? "" : `; not rehearsed: ${left.join(", ")}`}`;
}
