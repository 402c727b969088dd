// The steps of a rotation on real tokens, nodes, etcd and API servers. Each step opens what it needs and closes it again, so
// that nothing read before a wait is relied on after it. Every change is made by the code that the single commands use.
import { setTimeout as sleep } from "node:timers/promises";
import { KmsError } from "../../errors.js";
import { activationAdvice } from "../approval-check.js";
import { withTokens } from "../command-tokens.js";
import { readNodes } from "../node-comparison.js";
import { makeNextKek } from "../rotate-kek.js";
import { lackingText, waitForRollout } from "../guarded-rotation.js";
import { windowBefore } from "../require-unneeded.js";
import { viewKeyring } from "../keyring-view.js";
import { schedulePolicy } from "../../compose/provider.js";
import { destroyStandby, retireKek } from "./destroy.js";
import type { RotationOrder } from "./order.js";
import { describeStep } from "./describe-step.js";
import { behind, type Facts, type Position, type RotationKek } from "./position.js";
import { readFacts, readPublished, standbyOf } from "./read-facts.js";
import type { Open, RotationSteps, StepResult } from "./run-steps.js";
import { checkAccess, migrateTo, verifyAll } from "./stored-steps.js";

/** How long a node may take to publish a KEK after its instant, in ms: an API server calls Status every minute. */
const CONFIRM_LIMIT_MS = 5 * 60_000;
const POLL_MS = 1_000;

/** Returns the steps of a rotation. */
export function liveSteps(order: RotationOrder): RotationSteps {
  const run: Run = { ...order, made: undefined };
  return {
    facts: () => readFacts(run),
    plan: (position) => describeStep(position, Date.now() + CONFIRM_LIMIT_MS),
    take: (position, facts) => take(run, position, facts),
  };
}

interface Run extends RotationOrder {
  /** The key_id of the KEK that this run made: nobody else can have used it before this run existed. */
  made: string | undefined;
}

async function take(order: Run, position: Open, facts: Facts): Promise<StepResult> {
  switch (position.step) {
    case "preflight":
      return preflight(order, facts);
    case "create":
      return create(order);
    case "wait":
      return waitForAll(order, position.to);
    case "activate":
      return waitForInstant(order, position.to);
    case "confirm":
      return confirm(order, position.to);
    case "migrate":
      return migrateTo(order, publishedName(position.to, facts));
    case "verify":
      return verifyAll(order);
    case "retire":
      return retire(order, position);
  }
}

async function preflight(order: RotationOrder, { nodes }: Facts): Promise<StepResult> {
  const silent = (await readNodes(order.nodes)).flatMap(({ error }) => error ?? []);
  if (silent.length > 0) throw new KmsError("PEER_UNREACHABLE", `${silent.join("; ")}; nothing was changed`);
  const answered = `tokens: ${order.settings.tokens.length}, nodes: ${nodes.length}`;
  const stored = await checkAccess(order);
  return { detail: [answered, ...stored].join("; "), found: { preflight: true } };
}

/** Makes the KEK, unless a run on another machine has just made one. @throws KmsError if none is standby afterwards */
async function create(order: Run): Promise<StepResult> {
  const { settings, nodes, operator, signal, guarded, approve } = order;
  try {
    const { plan, made } = await withTokens(settings, operator, (tokens) =>
      makeNextKek({
        settings,
        tokens,
        nodes,
        now: Date.now(),
        activation: order.activation(),
        dryRun: false,
        abortUnlessConverged: guarded,
        exclusive: true,
        signal,
        approve,
        operator,
      }),
    );
    order.made = made?.keyId;
    const advice = made && (await activationAdvice(settings, made));
    if (advice !== undefined) operator.notify(advice);
    const at = new Date(plan.activation).toISOString();
    return { detail: `made "${plan.label}" (key_id ${made?.keyId ?? ""}), active from ${at}` };
  } catch (error) {
    // There was none before: this command made it in spite of the error, or another command did.
    const { keks } = await readFacts(order).catch(() => ({ keks: [] }));
    const standby = keks.find(({ state }) => state === "standby");
    if (standby === undefined) throw error;
    const { message } = KmsError.from(error);
    return { detail: `"${standby.label}" (key_id ${standby.keyIds[0]}) is standby: ${message}` };
  }
}

async function waitForAll(order: Run, to: RotationKek): Promise<StepResult> {
  const { settings, nodes, operator, signal, guarded } = order;
  return withTokens(settings, operator, async (tokens) => {
    const standby = standbyOf(viewKeyring(tokens, schedulePolicy(settings), Date.now()));
    if (standby?.activation === undefined) return { detail: `"${to.label}" is not standby any more` };
    const { record: kek, activation } = standby;
    const rollout = { kek, activation, tokens, checked: tokens, nodes, guarded, signal, operator };
    const { readiness, converged, interrupted, aheadMs } = await waitForRollout(rollout);
    if (interrupted) throw interruption(to);
    if (converged) return { detail: `${readiness.length} tokens and nodes are ready` };
    const reason = lackingText(readiness);
    if (guarded) {
      const isOurs = kek.keyId === order.made && readiness.every(({ state }) => state !== "active");
      const window = isOurs ? windowBefore(activation, aheadMs) : undefined;
      throw await destroyStandby(order, { tokens, kek, reason, window });
    }
    throw new KmsError(
      "KEY_MISSING",
      `not on every token and node at its activation: ${reason}; a node that lacks it cannot read what the others write: ` +
        "repair that, then run the command again",
    );
  });
}

function interruption({ label, activation }: RotationKek): KmsError {
  const at = new Date(activation).toISOString();
  return new KmsError(
    "CANCELLED",
    `interrupted; "${label}" stays standby until ${at} and then becomes active; run the command again to continue, or ` +
      "'kms-pkcs11 rotation abort' before that instant to cancel it",
  );
}

async function waitForInstant({ signal }: RotationOrder, to: RotationKek): Promise<StepResult> {
  await pauseUntil(to.activation, signal, interruption(to));
  return { detail: `"${to.label}" is active by this machine's clock` };
}

/** Waits until every node publishes the KEK. @throws KmsError KEY_MISSING that names those which do not */
async function confirm({ nodes, operator, signal }: RotationOrder, to: RotationKek): Promise<StepResult> {
  const until = Date.now() + CONFIRM_LIMIT_MS;
  let reported = "";
  for (;;) {
    const late = behind({ nodes: await readPublished(nodes) }, to).map(
      ({ name, publishedKeyId, problems }) =>
        `${name} publishes ${publishedKeyId ?? "nothing"}${problems.length > 0 ? ` (${problems.join("; ")})` : ""}`,
    );
    if (late.length === 0) return { detail: `${nodes.length} nodes publish ${to.keyIds[0]}` };
    const text = late.join("\n");
    if (text !== reported) operator.notify((reported = text));
    if (signal.aborted) throw new KmsError("CANCELLED", "interrupted; run the command again to continue");
    if (Date.now() >= until) {
      throw new KmsError("KEY_MISSING", `not every node publishes ${to.keyIds[0]}: ${late.join("; ")}`);
    }
    await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
  }
}

/** Returns the key_id of the KEK as the nodes publish it, which may be an alias of the token's own name for it. */
function publishedName(to: RotationKek, { nodes }: Facts): string {
  return nodes[0]?.publishedKeyId ?? to.keyIds[0];
}

async function retire(
  order: RotationOrder,
  { kek, notBefore }: Extract<Position, { readonly step: "retire" }>,
): Promise<StepResult> {
  const again = new KmsError(
    "CANCELLED",
    "interrupted; nothing was destroyed; run the command again to continue",
  );
  await pauseUntil(notBefore, order.signal, again);
  return { detail: await retireKek(order, kek) };
}

/** Waits until an instant, in short pauses, since a clock may be set meanwhile. @throws the error after an interrupt */
async function pauseUntil(instant: number, signal: AbortSignal, error: KmsError): Promise<void> {
  while (Date.now() < instant && !signal.aborted) {
    await sleep(Math.min(POLL_MS, instant - Date.now() + 1), undefined, { signal }).catch(() => undefined);
  }
  if (signal.aborted) throw error;
}
