// `kms-pkcs11 rotation status`: shows where a rotation is and what `rotation run` would do next. Changes nothing.
import type { Command } from "commander";
import { describeStep } from "../../admin/rotation/describe-step.js";
import { goalOf } from "../../admin/rotation/goal.js";
import {
  isBefore,
  positionOf,
  STEPS,
  type Facts,
  type Position,
  type RotationKek,
  type Step,
} from "../../admin/rotation/position.js";
import { readFacts } from "../../admin/rotation/read-facts.js";
import { countLeft } from "../../admin/rotation/stored-steps.js";
import { optionalEtcd } from "../etcd/optional-etcd.js";
import { EXIT_NO } from "../exit-code.js";
import { addEveryNodeOption, nodesOf, type NodesOptions } from "../nodes-option.js";
import { operatorAt } from "../operator.js";
import { formatJson, type Terminal } from "../output.js";
import type { RotationStatusOutput } from "../output-schema/rotation.js";
import { formatTable } from "../table.js";
import { addKeyOptions, settingsFrom, type SettingsOptions } from "../settings-options.js";
import { addGoalOptions, addStoredOptions, wishOf, type GoalOptions, type StoredOptions } from "./options.js";

type StatusOptions = SettingsOptions & NodesOptions & GoalOptions & StoredOptions;

const HELP = `
The position follows from the KEKs on the tokens, the nodes' /keys and, with --endpoints, a census of etcd. Nothing shows
whether stored objects have been verified, so 'rotation run' verifies them again. Exit code 1: the position is ambiguous, and
the reason says what to do.

Example:
  kms-pkcs11 rotation status --config /etc/kms-pkcs11/config.yaml --nodes http://127.0.0.1:8090,http://127.0.0.1:28090`;

/** Adds `rotation status`. */
export function addRotationStatusCommand(rotation: Command, terminal: Terminal): void {
  const command = addKeyOptions(rotation.command("status")).description(
    "show where the rotation is and what 'rotation run' would do next",
  );
  addEveryNodeOption(addStoredOptions(addGoalOptions(command)))
    .addHelpText("after", HELP)
    .action(async (_local, invoked: Command) => {
      await status(invoked.optsWithGlobals<StatusOptions>(), terminal);
    });
}

async function status(options: StatusOptions, terminal: Terminal): Promise<void> {
  const settings = settingsFrom(options, false);
  const wish = wishOf(options, settings);
  const operator = operatorAt(terminal);
  const facts = await readFacts({ settings, nodes: nodesOf(options, settings), operator, guarded: false });
  const access = optionalEtcd(options);
  const active = facts.keks.find(({ state }) => state === "active");
  const left =
    access === undefined || active === undefined
      ? undefined
      : await countLeft(access, active.keyIds[0], { ...options, prefix: options.etcdPrefix });
  const position = positionOf(facts, goalOf(facts, wish), { preflight: true, left, verified: false });
  const shown = { facts, position, left };
  terminal.out(options.output === "json" ? formatJson(statusJson(shown)) : describe(shown));
  if (position.step === "blocked") process.exitCode = EXIT_NO;
}

interface Shown {
  readonly facts: Facts;
  readonly position: Position;
  readonly left: number | undefined;
}

function statusJson({ facts: { keks, nodes, lacking }, position, left }: Shown): RotationStatusOutput {
  const { step } = position;
  const { detail, until } = nextOf(position);
  return {
    step,
    detail,
    until: until === undefined ? null : iso(until),
    keks: keks.map(({ keyIds: [keyId], label, activation, state }) => ({
      keyId,
      label,
      state,
      activation: Number.isFinite(activation) ? iso(activation) : null,
    })),
    nodes: nodes.map(({ name, publishedKeyId, problems }) => ({ url: name, publishedKeyId, problems })),
    lacking,
    left: left ?? null,
  };
}

function describe({ facts, position, left }: Shown): string {
  const { detail, until } = nextOf(position);
  const limit = until === undefined ? "" : `, until ${iso(until)}`;
  return [
    formatTable(
      ["KEY_ID", "STATE", "LABEL", "PUBLISHED BY"],
      facts.keks.map((kek) => kekRow(kek, facts)),
    ),
    "",
    ...facts.nodes.flatMap(({ name, problems }) => problems.map((problem) => `${name}: ${problem}`)),
    ...facts.lacking,
    ...(facts.nodes.length === 0 ? ["no node was asked: give --nodes"] : []),
    left === undefined
      ? "objects not counted: give --endpoints"
      : `${left} objects are not under the active KEK`,
    formatTable(
      ["STEP", "STATE"],
      STEPS.map((step) => [step, stateOf(step, position, left, facts.nodes.length > 0)]),
    ),
    "",
    `next: ${position.step === "blocked" ? "" : `${position.step}: `}${detail}${limit}`,
  ].join("\n");
}

function kekRow({ keyIds, state, label }: RotationKek, { nodes }: Facts): string[] {
  const publishing = nodes.filter(({ publishedKeyId }) => keyIds.includes(publishedKeyId ?? ""));
  return [
    keyIds[0],
    state,
    label,
    nodes.length === 0 ? "-" : `${publishing.length} of ${nodes.length} nodes`,
  ];
}

/** Preflight is part of every run; the steps before the position have been taken. */
function stateOf(
  step: Step,
  { step: at }: Position,
  left: number | undefined,
  areNodesAsked: boolean,
): string {
  if (step === "preflight") return "at each run";
  if (at === "blocked") return "unknown";
  // Only the nodes show these.
  if (!areNodesAsked && (step === "wait" || step === "confirm")) return "unknown";
  if (at === "done") return "done";
  if (step === at) return step === "migrate" && left === undefined ? "unknown" : "next";
  return isBefore(step, at) ? "done" : "to do";
}

function nextOf(position: Position): { readonly detail: string; readonly until: number | undefined } {
  switch (position.step) {
    case "blocked":
      return { detail: position.reason, until: undefined };
    case "done":
      return { detail: "nothing is left to do", until: undefined };
    default:
      return describeStep(position, undefined);
  }
}

function iso(time: number): string {
  return new Date(time).toISOString();
}
