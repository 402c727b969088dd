// The only file that decides whether a KEK may be destroyed. Every command that destroys a KEK calls it after its last
// wait, so that every check made before a prompt or a census is repeated, in this order: the reports, which may take
// minutes; the tokens; the nodes; the clock. The permission ends when the KEK may come into use.
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import { LIVE_ETCD, requireNoneUnder, requireUnused, type NamedReport } from "../etcd/disuse.js";
import type { DestroyWindow } from "../hsm/token-hsm.js";
import { activationOf, laterInstants, type Schedule } from "../provider/generations.js";
import { schedulePolicy } from "../compose/provider.js";
import { isSameKek } from "../hsm/key-id.js";
import type { KeyReference } from "./key-reference.js";
import { findNamedKey, viewKeyring, type KeyringView, type ViewedKey } from "./keyring-view.js";
import { CANCEL_MARGIN_MS, requireLeft, requireUnusedNow, type NodesAnswer } from "./require-of-nodes.js";
import { askedKek, mayBeActive, type AskedKek } from "./asked-kek.js";
import { readAgain, type Token } from "./command-tokens.js";

/** What the operator offers to show that nobody needs the KEK. */
export interface DisuseProof {
  /** The key_id, repeated by the operator to accept that the data under it is lost. */
  readonly lost: string | undefined;
  /** The key_id, repeated by the operator to state that no node encrypts under it any more. */
  readonly left: string | undefined;
  /** Reads report files, and searches etcd if one is configured. @throws KmsError */
  readonly reports: () => Promise<readonly NamedReport[]>;
  readonly maxAgeMs: number;
  /** kube-apiserver's `--etcd-prefix`. */
  readonly prefix: string;
  /** Clusters that use the token; each needs a report. */
  readonly clusterIds: readonly string[];
}

export interface Question {
  readonly settings: Settings;
  readonly tokens: readonly Token[];
  readonly keyId: string;
  /** Addresses of the nodes' plugins. */
  readonly nodes: readonly URL[];
  readonly proof: DisuseProof;
  /** Whether to read the tokens with reloaded libraries, which is necessary after a prompt of unknown length. */
  readonly reloaded: boolean;
}

/** Permission to destroy a KEK now, and its end. */
export interface Permission {
  readonly key: ViewedKey;
  /** What shows that the KEK is not needed, for the log. */
  readonly shown: string;
  /** Undefined for a KEK that cannot come into use. */
  readonly window: DestroyWindow | undefined;
}

/**
 * From the end of an outage's grace until the last API server has left a KEK: 1 minute to ask, 3 to continue, 1 spare.
 */
const API_SERVER_MS = 5 * 60_000;

/** Returns how long after the last plugin has left a KEK an API server may still encrypt under it, in ms. */
export function settlingMs({ health }: Settings): number {
  return health.outageGracePeriodMs + API_SERVER_MS;
}

/** A call that destroys is abandoned this long before the activation, in ms. */
const ABANDON_MARGIN_MS = 1_000;

/**
 * Decides whether a KEK may be destroyed now.
 * @throws KmsError KEY_UNKNOWN; TOKEN_REFUSED when it may not; PEER_UNREACHABLE when a node or etcd does not answer
 */
export async function requireUnneeded(question: Question): Promise<Permission> {
  const { settings, keyId, nodes, proof } = question;
  const reports = proof.lost === undefined ? await proof.reports() : [];
  const tokens = await readAgain(question.tokens, question.reloaded);
  const now = Date.now();
  const { key, view } = requireDestroyable(settings, tokens, { kind: "key_id", text: keyId }, now);
  const { record, state, activation } = key;
  const kek = askedKek(key, view);
  const standby = state === "standby" && activation !== undefined && nodes.length > 0;
  const answer = standby ? await requireUnusedNow(kek, activation, nodes) : await requireLeft(kek, nodes);
  const instant = activationOf(record.label, settings.objectName) ?? -Infinity;
  // A KEK that is refused here counts as well: another node may accept it. Both were checked at `now`, not later.
  const window = instant > now ? windowBefore(instant, answer?.aheadMs ?? 0) : undefined;
  if (window !== undefined && window.begunBy < Date.now()) throw tooLate(record.keyId);
  const shown =
    standby && answer?.uncertainUse === undefined
      ? [answer?.statement, requireNoneUnder(reports, kek)].join("; ")
      : disuse(question, kek, key, view.schedule, answer, reports);
  return { key, shown, window };
}

/**
 * Returns the KEK that a reference names, and the keyring, unless the KEK is active.
 * @throws KmsError KEY_UNKNOWN; TOKEN_REFUSED for the active KEK; why a token cannot be read
 */
export function requireDestroyable(
  settings: Settings,
  tokens: readonly Token[],
  reference: KeyReference,
  now: number,
): { readonly key: ViewedKey; readonly view: KeyringView } {
  const view = viewKeyring(tokens, schedulePolicy(settings), now);
  const key = findNamedKey("<key_id>", reference, view, tokens);
  if (key === undefined) {
    const failure = tokens.find((token) => token.failure !== undefined)?.failure;
    throw failure ?? unknownKek(reference);
  }
  // Without an active KEK it is unknown which of the others is in use.
  if (key.state !== "refused" && view.problem !== undefined) throw view.problem;
  const { keyId } = key.record;
  const isActive = view.active !== undefined && isSameKek(view.active.record, key.record);
  if (key.state === "active" || isActive) throw refusal(`${keyId} is the active KEK`);
  if (mayBeActive(key, view)) {
    throw refusal(`${keyId} may be the active KEK, with a fingerprint that another token does not compute,`);
  }
  return { key, view };
}

function refusal(why: string): KmsError {
  return new KmsError("TOKEN_REFUSED", `${why} and is not destroyed; rotate first`);
}

/** Returns the error for a KEK that no token holds. */
export function unknownKek({ text }: KeyReference): KmsError {
  return new KmsError("KEY_UNKNOWN", `no token holds a KEK with key_id ${text}; nothing was destroyed`);
}

/**
 * Returns the time until which a KEK that nodes will activate later may be destroyed.
 * @param instant ms since the epoch
 * @param aheadMs how far the clock that is furthest ahead is ahead of this machine's
 */
export function windowBefore(instant: number, aheadMs: number): DestroyWindow {
  const earliest = instant - Math.max(0, aheadMs);
  return { begunBy: earliest - CANCEL_MARGIN_MS, endedBy: earliest - ABANDON_MARGIN_MS };
}

function tooLate(keyId: string): KmsError {
  return new KmsError("TOKEN_REFUSED", `${keyId} is about to become active; nothing was destroyed`);
}

/**
 * Returns what shows that a KEK which may have been in use is not needed.
 * @throws KmsError TOKEN_REFUSED when nothing does
 */
function disuse(
  { settings, proof }: Question,
  { keyIds, others }: AskedKek,
  key: ViewedKey,
  schedule: Schedule,
  answer: NodesAnswer | undefined,
  reports: readonly NamedReport[],
): string {
  const { keyId } = key.record;
  if (isStated("--i-understand-data-is-lost", proof.lost, keyId)) {
    return "the operator states that the data under it is lost";
  }
  const isLeftAsStated = isStated("--every-node-has-left", proof.left, keyId);
  if (reports.length === 0) {
    const why = key.state === "standby" && answer?.uncertainUse ? `${answer.uncertainUse.reason}; so ` : "";
    throw new KmsError(
      "TOKEN_REFUSED",
      `${why}nothing shows that no object is under ${keyId} any more; ${howToShow(key, answer !== undefined)}`,
    );
  }
  const settledAt = leftAt(key, schedule, answer) + settlingMs(settings);
  const departure =
    answer?.statement ?? (isLeftAsStated ? "left by every node, as the operator states" : undefined);
  if (departure === undefined) {
    throw new KmsError(
      "TOKEN_REFUSED",
      `etcd does not show whether a node still encrypts under ${keyId}; name every node with --nodes, or, if that is known, give --every-node-has-left ${keyId}`,
    );
  }
  const now = Date.now() - (answer?.behindMs ?? 0);
  if (answer?.uncertainUse !== undefined && now < settledAt) {
    throw tooEarly(answer.uncertainUse.reason, settledAt, reports);
  }
  const { maxAgeMs, prefix, clusterIds } = proof;
  const unused = requireUnused(reports, { keyIds, others, settledAt, now, maxAgeMs, prefix, clusterIds });
  return `${unused}; ${departure}`;
}

/** A standby KEK is usually cancelled, for which the nodes' answers suffice. */
function howToShow({ record: { keyId }, state }: ViewedKey, areNodesAsked: boolean): string {
  const proof = `give --usage-report or --endpoints, or, to give up the data under it, --i-understand-data-is-lost ${keyId}`;
  return state === "standby" && !areNodesAsked
    ? `to cancel it before its activation, name every node with --nodes, here or for 'kms-pkcs11 rotation abort'; otherwise ${proof}`
    : proof;
}

function tooEarly(reason: string, settledAt: number, reports: readonly NamedReport[]): KmsError {
  const until = new Date(settledAt).toISOString();
  const isLive = reports.every(({ name }) => name === LIVE_ETCD);
  const next = isLive
    ? `until ${until}, API servers may still encrypt under the KEK; repeat the command after that`
    : `a report taken before every API server had left the KEK proves nothing; take one after ${until}`;
  return new KmsError("TOKEN_REFUSED", `${reason}; ${next}; nothing was destroyed`);
}

/**
 * Returns when the last plugin left a KEK: its successor's instant, by the slowest clock, or the last time that a node
 * may have answered under it.
 */
function leftAt(key: ViewedKey, schedule: Schedule, answer: NodesAnswer | undefined): number {
  const { uncertainUse, behindMs = 0 } = answer ?? {};
  if (uncertainUse !== undefined && uncertainUse.lastUse === undefined) {
    throw new KmsError(
      "TOKEN_REFUSED",
      `${uncertainUse.reason}, so it is unknown when it left the KEK; update its plugin to this release first`,
    );
  }
  const lastUse = uncertainUse?.lastUse ?? -Infinity;
  const isAnsweredFor = key.state === "standby" && answer !== undefined;
  return isAnsweredFor ? lastUse : Math.max(lastUse, supersededAt(key, schedule) + behindMs);
}

/** Returns whether the operator repeated the key_id. @throws KmsError TOKEN_REFUSED for a different one */
function isStated(option: string, written: string | undefined, keyId: string): boolean {
  if (written === undefined || written === keyId) return written === keyId;
  throw new KmsError("TOKEN_REFUSED", `${option} names another key_id; nothing was destroyed`);
}

/**
 * Returns the activation of the first generation after the KEK.
 * @throws KmsError TOKEN_REFUSED when no label shows it
 */
function supersededAt({ state, activation = -Infinity }: ViewedKey, { generations }: Schedule): number {
  if (state === "standby") {
    throw new KmsError(
      "TOKEN_REFUSED",
      "etcd cannot show that no node is about to use a standby KEK; name every node with --nodes",
    );
  }
  const later = laterInstants(activation, generations, Date.now());
  // A refused key is not part of the schedule: only what is active now is known to have come after it.
  if (later.length > 0) return state === "refused" ? Math.max(...later) : Math.min(...later);
  throw new KmsError(
    "TOKEN_REFUSED",
    "no label shows since when another KEK is active, so etcd cannot show that nothing more is encrypted under this one; run 'kms-pkcs11 keys rotate', and destroy this KEK after the new one is active",
  );
}
