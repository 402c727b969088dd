// Whether a new KEK may be relied on: one check of the tokens that need a clone of it and of the nodes that will
// encrypt under it.
import { KmsError } from "../errors.js";
import type { KekRecord } from "../hsm/port.js";
import { isSameKek } from "../hsm/key-id.js";
import { readNode, type NodeKeyring } from "./node-client.js";
import type { Token } from "./command-tokens.js";

/** `active`: the node uses it already. */
type ReadinessState = "ready" | "active" | "missing" | "failing" | "unreachable";

/** The state of a new KEK on one token or node. */
export interface Readiness {
  readonly kind: "token" | "node";
  /** The token's name, or the node's URL. */
  readonly name: string;
  readonly state: ReadinessState;
  readonly detail: string;
  /** How far a node's clock is ahead of this machine's, in ms; null for tokens and for nodes that do not answer. */
  readonly clockAheadMs: number | null;
}

/** A token that takes longer to answer, in ms, counts as unreachable, since the decision waits for every answer. */
export const CHECK_LIMIT_MS = 5_000;

/** Returns whether the token or node may be relied on: it is ready, or uses the KEK already. */
export function isReady({ state }: Readiness): boolean {
  return state === "ready" || state === "active";
}

/**
 * Checks all tokens and nodes at the same time; never throws.
 * @param reloaded whether to reload the libraries first: some never show an object that is newer than their load
 */
export async function checkReadiness(
  kek: KekRecord,
  tokens: readonly Token[],
  nodes: readonly URL[],
  reloaded = false,
): Promise<Readiness[]> {
  return Promise.all([
    ...tokens.map((token) => checkToken(kek, token, reloaded)),
    ...nodes.map((node) => checkNode(kek, node)),
  ]);
}

async function checkToken(kek: KekRecord, { name, hsm }: Token, reloaded: boolean): Promise<Readiness> {
  const base = { kind: "token", name, clockAheadMs: null } as const;
  try {
    const records = await withLimit(CHECK_LIMIT_MS, reloaded ? hsm.listKeksReloaded() : hsm.listKeks());
    const found = records.find((record) => isSameKek(record, kek));
    if (found !== undefined) return { ...base, state: "ready", detail: "holds it" };
    const other = records.find(({ label, ckaId }) => label === kek.label && ckaId === kek.ckaId);
    if (other === undefined) {
      return { ...base, state: "missing", detail: "does not hold it; clone it there" };
    }
    const detail = `holds another key under its label and CKA_ID, ${other.keyId}; clone it again`;
    return { ...base, state: "failing", detail };
  } catch (error) {
    return { ...base, state: "unreachable", detail: KmsError.from(error).message };
  }
}

async function withLimit<T>(ms: number, work: Promise<T>): Promise<T> {
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

async function checkNode(kek: KekRecord, url: URL): Promise<Readiness> {
  const base = { kind: "node", name: url.href } as const;
  try {
    const keyring = await readNode(url);
    return { ...base, ...stateOn(kek, keyring), clockAheadMs: keyring.clockAheadMs };
  } catch (error) {
    const detail = KmsError.from(error).message.replace(`${url.href}: `, "");
    return { ...base, state: "unreachable", detail, clockAheadMs: null };
  }
}

function stateOn(kek: KekRecord, node: NodeKeyring): Pick<Readiness, "state" | "detail"> {
  const found = node.keys.find(({ keyId }) => keyId === kek.keyId);
  if (found === undefined) {
    const other = node.keys.find(({ label }) => label === kek.label);
    return other === undefined
      ? { state: "missing", detail: "has not seen it yet" }
      : { state: "failing", detail: `has another key under its label, ${other.keyId}; it is not a clone` };
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

/** Returns table rows: state, name, detail. */
export function readinessRows(readiness: readonly Readiness[]): string[][] {
  return readiness.map(({ name, state, detail }) => [state, name, detail]);
}
