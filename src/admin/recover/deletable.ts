// Decides which unreadable objects may be deleted, and why the others are kept. An object may be deleted only if a working KEK
// refuses it, which shows that it is damaged, or if the operator declares the KEK with its key_id lost.
import type { AskedNode, Finding, Found } from "./find-unreadable.js";

export interface Selection {
  /** Key_ids whose KEK the operator declares lost. */
  readonly lostKeks: readonly string[];
  /** The only objects to delete, at these revisions; undefined: all. */
  readonly only: readonly { readonly key: string; readonly modRevision: number }[] | undefined;
}

export interface Kept {
  readonly finding: Finding;
  readonly why: string;
}

export interface Deletable {
  readonly chosen: readonly Finding[];
  readonly kept: readonly Kept[];
}

/** Sorts the findings into those that may be deleted and those that are kept. */
export function deletableOf(
  { findings, nodes }: Pick<Found, "findings" | "nodes">,
  selection: Selection,
): Deletable {
  const chosen: Finding[] = [];
  const kept: Kept[] = [];
  for (const finding of findings) {
    const why = reasonToKeep(finding, nodes, selection);
    if (why === undefined) chosen.push(finding);
    else kept.push({ finding, why });
  }
  return { chosen, kept };
}

/** Returns why an object is not deleted; undefined if it may be. */
export function reasonToKeep(
  finding: Finding,
  nodes: readonly AskedNode[],
  { lostKeks, only }: Selection,
): string | undefined {
  const { key, modRevision, cause, keyId, reason } = finding;
  if (only !== undefined && !only.some((one) => one.key === key && one.modRevision === modRevision)) {
    return "it is not in the list of --only at this revision";
  }
  if (cause === "unproven" || cause === "known-elsewhere") return reason;
  if (cause === "damaged" || cause === "envelope") return undefined;
  if (keyId === null || !lostKeks.includes(keyId)) {
    return `its KEK may exist elsewhere; if no token, backup or other plugin has it, name it with --lost-kek ${keyId ?? ""}`;
  }
  const silent = nodes.find(({ error }) => error !== null);
  return silent === undefined ? undefined : `a node may have its KEK: ${silent.error ?? ""}`;
}
