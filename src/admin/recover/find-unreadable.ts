// Finds the objects in an etcd or a snapshot that no key can decrypt, with the cause of each. A missing proof is not damage:
// an object whose KEK may be on a token that could not be read, or is on a node, is never called lost.
import type { Settings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import type { ObjectStore } from "../../etcd/store.js";
import type { Cause, ForeignObjects, UnreadableObject } from "../../etcd/unreadable.js";
import { hasKeyId, mayBeNamed } from "../../hsm/key-id.js";
import type { Token } from "../command-tokens.js";
import { readNodeRefreshed, type NodeKeyring } from "../node-client.js";
import type { Operator } from "../operator.js";
import { NO_PROOFS, proveKeks, type UnprovenKek } from "./prove-keks.js";
import { StoredSeeds } from "./stored-seeds.js";
import { verifyWith } from "../verify-stored.js";
import { withProviderOn } from "../with-provider.js";

/** The causes that a verification reports, and two that only nodes can know. */
export const FINDING_CAUSES = [
  "unknown-key-id",
  /** A node used this KEK, and no token holds it any more. */
  "kek-missing",
  /** A node holds the KEK, but the tokens of this command do not. */
  "known-elsewhere",
  "damaged",
  "envelope",
  "unproven",
] as const satisfies readonly (Cause | "kek-missing" | "known-elsewhere")[];

export interface Finding extends Omit<UnreadableObject, "cause"> {
  readonly cause: (typeof FINDING_CAUSES)[number];
}

/** A node, and why it does not answer; the reason is null if it answers. */
export interface AskedNode {
  readonly url: string;
  readonly error: string | null;
}

export interface Found {
  readonly objects: number;
  /** How many cannot be decrypted; more than are listed if there are too many. */
  readonly unreadable: number;
  readonly findings: readonly Finding[];
  readonly foreign: readonly ForeignObjects[];
  readonly nodes: readonly AskedNode[];
  /** Proofs are taken only if an object is damaged. */
  readonly unproven: readonly UnprovenKek[];
  readonly revision: number;
  readonly seconds: number;
}

/** The number of objects that are listed one by one. */
export const MAX_LISTED = 10_000;

/**
 * Decrypts every object of a store with the tokens, and lists what cannot be decrypted.
 * @param nodes are asked only if a key_id is unknown
 * @throws KmsError if etcd or every token is away; KEY_MISSING if no token holds a KEK: then no failure shows damage
 */
export async function findUnreadable(
  store: ObjectStore,
  prefix: string,
  tokens: readonly Token[],
  nodes: readonly URL[],
  settings: Settings,
  operator: Operator,
): Promise<{ readonly found: Found; readonly seeds: StoredSeeds }> {
  requireSomeKek(tokens);
  const seeds = new StoredSeeds();
  const onSeed = seeds.add.bind(seeds);
  const options = { prefix, sessions: settings.hsm.sessions, listed: MAX_LISTED, onSeed };
  const { unreadable, resources, objects, seconds } = await withProviderOn(
    tokens,
    settings,
    operator,
    (provider) => verifyWith(provider, store, options, operator),
  );
  const listed = unreadable?.objects ?? [];
  const { unproven, failures } = listed.some(({ cause }) => cause === "damaged")
    ? await proveKeks(tokens, seeds, settings, operator)
    : NO_PROOFS;
  const asked = listed.some(({ cause }) => cause === "unknown-key-id") ? await askNodes(nodes) : [];
  const found = {
    objects,
    unreadable: resources.reduce((sum, { failed }) => sum + failed, 0),
    findings: listed.map((object) => withKnowledge(withProof(object, failures), tokens, asked)),
    foreign: unreadable?.foreign ?? [],
    nodes: asked.map(({ url, error }) => ({ url, error })),
    unproven,
    revision: store.revisions?.last ?? 0,
    seconds,
  };
  return { found, seeds };
}

/** A token that shows no key may be another one, or not be logged in: then every key_id would be unknown. */
function requireSomeKek(tokens: readonly Token[]): void {
  const readable = tokens.filter(({ failure }) => failure === undefined);
  if (readable.length === 0 || readable.some(({ records }) => (records ?? []).length > 0)) return;
  throw new KmsError(
    "KEY_MISSING",
    "no token holds a KEK, so nothing can be said about any object; see 'kms-pkcs11 keys list'",
  );
}

/** Returns the finding; its cause is `unproven` if the KEK fails its proof, since a broken key decrypts nothing. */
export function withProof(object: UnreadableObject, failed: ReadonlyMap<string, string>): UnreadableObject {
  const reason = object.keyId === null ? undefined : failed.get(object.keyId);
  return object.cause === "damaged" && reason !== undefined
    ? { ...object, cause: "unproven", reason }
    : object;
}

interface Answer extends AskedNode {
  readonly keyring?: NodeKeyring;
}

/** Asks all nodes at the same time, after they have read their tokens again; never throws. */
export async function askNodes(nodes: readonly URL[]): Promise<Answer[]> {
  return Promise.all(
    nodes.map(async (url) => {
      try {
        return { url: url.href, error: null, keyring: await readNodeRefreshed(url) };
      } catch (error) {
        return { url: url.href, error: KmsError.from(error).message };
      }
    }),
  );
}

/** Adds to a finding what tokens and nodes know about its unknown key_id. */
export function withKnowledge(
  object: UnreadableObject,
  tokens: readonly Token[],
  asked: readonly Answer[],
): Finding {
  const { cause, keyId } = object;
  if (cause !== "unknown-key-id" || keyId === null) return object;
  const away = tokens.find(({ failure }) => failure !== undefined);
  if (away?.failure !== undefined) {
    return unproven(
      object,
      `its KEK may be on ${away.name}, which could not be read: ${away.failure.message}`,
    );
  }
  const isHeld = tokens.some(({ records = [] }) => records.some((record) => hasKeyId(record, keyId)));
  if (isHeld) return unproven(object, "a token holds its KEK, which is not used; see 'kms-pkcs11 keys list'");
  const similar = tokens.flatMap(({ records = [] }) => records).find((record) => mayBeNamed(record, keyId));
  if (similar !== undefined) {
    return unproven(
      object,
      `the KEK ${similar.keyId} on a token may be its KEK: they have the same CKA_ID, and their fingerprints cannot be compared`,
    );
  }
  const holder = asked.find(({ keyring }) => keyring?.keys.some((key) => key.keyId === keyId));
  if (holder !== undefined) {
    const reason = `the node ${holder.url} holds its KEK, these tokens do not: run the command there, or clone the KEK`;
    return { ...object, cause: "known-elsewhere", reason };
  }
  const user = asked.find(({ keyring }) => keyring?.answered.some((one) => one.keyId === keyId));
  if (user === undefined) return object;
  const reason = `the node ${user.url} has used its KEK, and no token holds it any more; restore the KEK from the HSM's backup`;
  return { ...object, cause: "kek-missing", reason };
}

function unproven(object: UnreadableObject, reason: string): Finding {
  return { ...object, cause: "unproven", reason };
}
