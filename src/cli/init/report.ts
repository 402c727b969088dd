// What `kms-pkcs11 init` prints: each part of the plan with its content, and the commands that follow.
import type { InspectedPart, PartState } from "../../init/inspection.js";
import { octal } from "../../init/inspection.js";
import type { NextStep } from "../../init/next-steps.js";
import type { Planned } from "../../init/plan.js";
import type { InitOutput } from "../output-schema/plugin.js";

const STATES: Readonly<Record<PartState, string>> = {
  new: "new",
  unchanged: "unchanged",
  kept: "kept",
  other: "differs",
};

/** Returns the parts as text, with the content of what would be written. */
export function partsText(inspected: readonly InspectedPart[]): string {
  return inspected.map(partText).join("\n");
}

function partText({ part, state, difference }: InspectedPart): string {
  const head = `${STATES[state].padEnd(9)}  ${describePart(part)}${difference === undefined ? "" : ` (${difference})`}`;
  const isShown = part.kind === "file" && (state === "new" || state === "other");
  if (!isShown) return head;
  const lines = part.content.trimEnd().split("\n");
  return [head, ...lines.map((line) => `    | ${line}`.trimEnd())].join("\n");
}

/** Returns the path of a part with its mode and owner, without its content. */
function describePart(part: Planned): string {
  if (part.kind === "link") return `${part.path} -> ${part.target}`;
  const what = part.kind === "folder" ? "/" : part.kind === "pin" ? " (the PIN, not shown)" : "";
  return `${part.path}${what}  ${octal(part.mode)} ${part.uid}:${part.gid}`;
}

/** Returns a part for JSON. */
export function partRecord({ part, state, difference }: InspectedPart): InitOutput["parts"][number] {
  const owned =
    part.kind === "link"
      ? { target: part.target }
      : { mode: octal(part.mode), owner: `${part.uid}:${part.gid}` };
  const content = part.kind === "file" ? { content: part.content } : {};
  return { path: part.path, kind: part.kind, state, difference, ...owned, ...content };
}

/** Returns the numbered steps. */
export function stepsText(steps: readonly NextStep[]): string {
  return steps
    .map(
      ({ command, why }, at) =>
        `${String(at + 1).padStart(2)}. ${why}${command === undefined ? "" : `:\n      ${command}`}`,
    )
    .join("\n");
}
