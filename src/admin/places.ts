// Where a new KEK has to be seen before it may be relied on: the tokens that it is to be cloned to, and the nodes
// that are to encrypt under it. One look finds how each of them stands.
import { KmsError } from "../errors.js";
import type { KekRecord } from "../hsm/port.js";
import { isSameKek } from "./keyring-view.js";
import { readNode, type NodeKeyring } from "./node-client.js";
import type { Token } from "./command-tokens.js";

/** `active`: the node uses it already. */
type PlaceState = "ready" | "active" | "missing" | "failing" | "unreachable";

export interface Place {
  readonly kind: "token" | "node";
  /** The token's name, or the node's URL. */
  readonly name: string;
  readonly state: PlaceState;
  readonly detail: string;
  /** How far a node's clock is ahead of this machine's, in ms; null for tokens and for nodes that do not answer. */
  readonly clockAheadMs: number | null;
}

/** A place that takes longer to answer counts as unreachable, in ms: others' decisions wait for it. */
export const LOOK_MS = 5_000;

export function isReady({ state }: Place): boolean {
  return state === "ready" || state === "active";
}

/**
 * Asks all at the same time; never throws.
 * @param anew by libraries loaded anew: some never show an object that came after them
 */
export async function look(
  kek: KekRecord,
  tokens: readonly Token[],
  nodes: readonly URL[],
  anew = false,
): Promise<Place[]> {
  return Promise.all([
    ...tokens.map((token) => lookAtToken(kek, token, anew)),
    ...nodes.map((node) => lookAtNode(kek, node)),
  ]);
}

async function lookAtToken(kek: KekRecord, { name, hsm }: Token, anew: boolean): Promise<Place> {
  const place = { kind: "token", name, clockAheadMs: null } as const;
  try {
    const records = await within(LOOK_MS, anew ? hsm.listKeksReloaded() : hsm.listKeks());
    const found = records.find((record) => isSameKek(record, kek));
    if (found !== undefined) return { ...place, state: "ready", detail: "holds it" };
    const other = records.find(({ label, ckaId }) => label === kek.label && ckaId === kek.ckaId);
    if (other === undefined) {
      return { ...place, state: "missing", detail: "does not hold it; clone it there" };
    }
    const detail = `holds another key under its label and CKA_ID, ${other.keyId}; clone it again`;
    return { ...place, state: "failing", detail };
  } catch (error) {
    return { ...place, state: "unreachable", detail: KmsError.from(error).message };
  }
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(new KmsError("DEADLINE", `no answer within ${ms} ms`));
    }, ms);
  });
  return Promise.race([work, late]).finally(() => {
    clearTimeout(timer);
  });
}

async function lookAtNode(kek: KekRecord, url: URL): Promise<Place> {
  const place = { kind: "node", name: url.href } as const;
  try {
    const keyring = await readNode(url);
    return { ...place, ...standing(kek, keyring), clockAheadMs: keyring.clockAheadMs };
  } catch (error) {
    return { ...place, state: "unreachable", detail: KmsError.from(error).message, clockAheadMs: null };
  }
}

function standing(kek: KekRecord, node: NodeKeyring): Pick<Place, "state" | "detail"> {
  const found = node.keys.find(({ keyId }) => keyId === kek.keyId);
  if (found === undefined) {
    const other = node.keys.find(({ label }) => label === kek.label);
    return other === undefined
      ? { state: "missing", detail: "has not seen it" }
      : { state: "failing", detail: `has another key under its label, ${other.keyId}: no clone` };
  }
  if (found.label !== kek.label) {
    return { state: "failing", detail: `has it under another label, "${found.label}"` };
  }
  if (found.failure !== null) return { state: "failing", detail: `its self-test failed: ${found.failure}` };
  if (found.provenAt === null) return { state: "missing", detail: "sees it, and has not proven it yet" };
  if (node.publishedKeyId === kek.keyId) return { state: "active", detail: "uses it already" };
  if (node.dueKeyId === kek.keyId) return { state: "active", detail: "uses it from the next Status call on" };
  return { state: "ready", detail: `has proven it at ${found.provenAt}` };
}

/** For a table or JSON. */
export function placeRows(places: readonly Place[]): string[][] {
  return places.map(({ name, state, detail }) => [state, name, detail]);
}
