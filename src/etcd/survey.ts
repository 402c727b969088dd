// The progress of a migration: by resource, how many objects are under the active key, how many still have to be
// rewritten, and how many the migration does not concern.
import { KmsError } from "../errors.js";
import { Allowance } from "./bounded-set.js";
import type { EtcdStore, StoreObserver } from "./store.js";
import { parseStorageKey, resourceOf, type ApiObjectName } from "./storage-key.js";
import type { StoredValue } from "./stored-object.js";

/** The state that a migration brings objects to. */
export interface Aim {
  readonly keyId: string;
  /** Returns whether a resource must be encrypted, which makes its objects in clear stale. */
  encrypts(resource: string): boolean;
  /**
   * Returns the name of the KMS v2 provider that writes a resource; undefined if it is not known or of another kind.
   */
  providerOf(resource: string): string | undefined;
}

/**
 * `current`: under the active key; `stale`: to be rewritten; `clear` and `aside`: in clear, or encrypted otherwise,
 * which this migration does not concern.
 */
export type ObjectState = "current" | "stale" | "clear" | "aside" | "unreadable";

const MAX_RESOURCES = 10_000;

/** Returns the state of an object with regard to the aim. */
export function stateOf(
  value: StoredValue | KmsError,
  object: ApiObjectName | undefined,
  aim: Aim,
): ObjectState {
  if (value instanceof KmsError) return object === undefined ? "aside" : "unreadable";
  const resource = resourceOf(object);
  const shouldBeOurs = object !== undefined && aim.encrypts(resource);
  if (value.kind === "plaintext") return shouldBeOurs ? "stale" : "clear";
  if (value.kind === "other-provider") return shouldBeOurs ? "stale" : "aside";
  const provider = aim.providerOf(resource);
  const isOurs = provider === undefined || value.providerName === provider;
  return isOurs && value.object.keyId === aim.keyId ? "current" : "stale";
}

export interface SurveyRow extends Readonly<Record<ObjectState, number>> {
  readonly resource: string;
  readonly objects: number;
}

export interface Survey {
  /** In the order of the keys. */
  readonly rows: readonly SurveyRow[];
  /** The revision of etcd at which the last key was read. */
  readonly revision: number;
  /** The number of stale and unreadable objects. */
  readonly left: number;
}

/**
 * Reads all objects and counts their states.
 * @throws KmsError PEER_UNREACHABLE; INPUT_INVALID if there are more resources than any cluster has
 */
export async function takeSurvey(
  store: EtcdStore,
  prefix: string,
  aim: Aim,
  observer: StoreObserver & { read?(objects: number): void } = {},
): Promise<Survey> {
  const rows = new Map<string, { -readonly [Name in keyof SurveyRow]: SurveyRow[Name] }>();
  const allowance = new Allowance(MAX_RESOURCES);
  let read = 0;
  for await (const { key, value } of store.objects(observer)) {
    const object = parseStorageKey(key, prefix);
    const resource = resourceOf(object);
    let row = rows.get(resource);
    if (row === undefined) {
      allowance.require("resources");
      rows.set(resource, (row = { resource, objects: 0, ...NONE }));
    }
    row.objects++;
    row[stateOf(value, object, aim)]++;
    observer.read?.(++read);
  }
  const all = [...rows.values()];
  return {
    rows: all,
    revision: store.revisions?.last ?? 0,
    left: all.reduce((sum, row) => sum + row.stale + row.unreadable, 0),
  };
}

const NONE = { current: 0, stale: 0, clear: 0, aside: 0, unreadable: 0 };

/** Returns the resources of which at least one object is encrypted, by any provider. */
export function encryptedResources({ rows }: Survey): string[] {
  return rows
    .filter(({ current, stale, aside }) => current + stale + aside > 0)
    .map(({ resource }) => resource);
}
