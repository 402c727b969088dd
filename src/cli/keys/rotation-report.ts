// Reports the result of `kms-pkcs11 keys rotate`, and fails with the error that sets its exit code.
import type { Rotation } from "../../admin/guarded-rotation.js";
import { formatNodeAddress } from "../../config/node-address.js";
import { KmsError } from "../../errors.js";
import type { KekRecord } from "../../hsm/port.js";
import type { RotationPlan } from "../../provider/rotation.js";
import { nextStep, printResult, type Change } from "../next-step.js";
import type { OutputFormat, Terminal } from "../output.js";
import { formatTable } from "../table.js";
import { CANCEL_MARGIN_MS } from "../../admin/require-of-nodes.js";
import { isReady, readinessRows, type Readiness } from "../../admin/readiness.js";
import { changeRows } from "../../admin/token-changes.js";
import type { KeysRotateOutput } from "../output-schema/keys.js";

/** Prints the result. @throws KmsError when a token or node lacked the key in time, or the rotation was aborted */
export function reportRotation(rotation: Rotation, output: OutputFormat, terminal: Terminal): void {
  const { plan, made, readiness, abort, kept, converged, interrupted } = rotation;
  const lacking = readiness.filter((one) => !isReady(one)).map(({ name }) => name);
  const failed = abort !== undefined || (converged !== undefined && lacking.length > 0);
  const nodes = readiness.flatMap(({ kind, name }) => (kind === "node" ? new URL(name) : []));
  const change = changeOf(plan, made, lacking, nodes);
  const text = describe(rotation);
  printResult({ json: asJson(rotation), text, change: failed ? undefined : change }, output, terminal);
  if (abort !== undefined && made !== undefined) throw aborted(plan, made, abort, interrupted === true);
  if (!failed) return;
  const problem = nextStep(change);
  const more = kept === undefined ? "" : `, and was not destroyed: ${kept}`;
  throw new KmsError(interrupted === true ? "CANCELLED" : "KEY_MISSING", `${problem}${more}`);
}

function changeOf(
  plan: RotationPlan,
  made: KekRecord | undefined,
  lacking: readonly string[],
  nodes: readonly URL[],
): Change {
  if (made === undefined) return { did: "plan a rotation" };
  return {
    did: "rotate",
    lacking,
    activation: iso(plan.activation),
    cancel: `kms-pkcs11 rotation abort ${made.keyId} ${optionsFor(nodes)}`,
    from: plan.from.record.keyId,
  };
}

function optionsFor(nodes: readonly URL[]): string {
  const [cluster] = nodes.flatMap((url) => url.searchParams.get("cluster") ?? []);
  const addresses = nodes.length === 0 ? "..." : nodes.map(formatNodeAddress).join(",");
  return `${cluster === undefined ? "" : `--cluster ${cluster} `}--nodes ${addresses}`;
}

type Abort = NonNullable<Rotation["abort"]>;

function aborted(
  plan: RotationPlan,
  { keyId }: KekRecord,
  { reason, tokens, failure }: Abort,
  interrupted: boolean,
): KmsError {
  if (failure === undefined) {
    const code = interrupted ? "CANCELLED" : "KEY_UNSUITABLE";
    return new KmsError(code, `rotation aborted, ${keyId} was destroyed: ${reason}`);
  }
  const failed = tokens.filter(({ error }) => error !== null);
  const where = failed.map(({ token, error }) => `${token}: ${error ?? ""}`).join("; ");
  const isKnown = tokens.every(({ outcome }) => outcome !== "unknown");
  const what = isKnown
    ? `${keyId} could not be destroyed (${where === "" ? failure.message : where}); it becomes active at `
    : `whether ${keyId} was destroyed is not known (${where}); if it still exists, it becomes active at `;
  return new KmsError(
    failure.code,
    `rotation aborted (${reason}), but ${what}${iso(plan.activation)} unless 'kms-pkcs11 keys destroy ${keyId} --nodes ...' ` +
      `succeeds at least ${CANCEL_MARGIN_MS / 1000} s before that`,
    failure,
  );
}

function asJson({
  plan,
  made,
  readiness,
  converged,
  interrupted,
  kept,
  abort,
}: Rotation): Omit<KeysRotateOutput, "next"> {
  const of = (kind: Readiness["kind"]): readonly Readiness[] => readiness.filter((one) => one.kind === kind);
  return {
    label: plan.label,
    activation: iso(plan.activation),
    from: plan.from.record.keyId,
    created: made ?? null,
    tokens: of("token").map(({ name, state, detail }) => ({ token: name, state, detail })),
    nodes: of("node").map(({ name, state, detail, clockAheadMs }) => ({
      url: name,
      state,
      detail,
      clockAheadMs,
    })),
    converged: converged ?? null,
    interrupted: interrupted ?? false,
    kept: kept ?? null,
    aborted: abort === undefined ? null : { reason: abort.reason, tokens: abort.tokens },
  };
}

function describe({ plan, made, readiness, abort }: Rotation): string {
  const isDestroyed = abort !== undefined && abort.failure === undefined;
  const rows = [
    ["key_id", made?.keyId ?? "not made: dry run"],
    ["label", plan.label],
    [isDestroyed ? "would have been active from" : "active from", iso(plan.activation)],
    [isDestroyed ? "active" : "until then", plan.from.record.keyId],
  ];
  const tables = [
    formatTable(["", ""], rows),
    ...(readiness.length === 0 ? [] : [formatTable(["", "", ""], readinessRows(readiness))]),
    ...(abort === undefined
      ? []
      : [formatTable(["", "", ""], [["destroyed", "", ""], ...changeRows(abort)])]),
  ];
  return tables.map((table) => table.trimStart()).join("\n");
}

function iso(instant: number): string {
  return new Date(instant).toISOString();
}
