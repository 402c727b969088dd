// The progress of a migration: by resource, how many objects are under the active KEK, how many still have to be
// rewritten, and how many the migration does not concern.
import { KmsError } from "../errors.js";
import { kmsProvider, type Usage } from "./census-row.js";
import { takeCensus, type CountOptions } from "./count-objects.js";
import type { EtcdStore } from "./store.js";
import { NO_API_OBJECT, resourceOf, type ApiObjectName } from "./storage-key.js";
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
 * `current`: under the active KEK; `stale`: to be rewritten; `clear` and `aside`: in clear, or encrypted otherwise,
 * which this migration does not concern.
 */
export type ObjectState = "current" | "stale" | "clear" | "aside" | "unreadable";

/** Returns the state of an object with regard to the aim. */
export function stateOf(
  value: StoredValue | KmsError,
  object: ApiObjectName | undefined,
  aim: Aim,
): ObjectState {
  return stateUnder(keyOf(value), resourceOf(object), aim);
}

/** What protects an object. */
type Key = Pick<Usage, "protection" | "provider" | "keyId">;

function keyOf(value: StoredValue | KmsError): Key {
  if (value instanceof KmsError) return { protection: "unreadable", provider: "", keyId: null };
  if (value.kind !== "kms-v2") return { protection: value.kind, provider: "", keyId: null };
  return { protection: "kms-v2", provider: kmsProvider(value.providerName), keyId: value.object.keyId };
}

function stateUnder({ protection, provider, keyId }: Key, resource: string, aim: Aim): ObjectState {
  const isObject = resource !== NO_API_OBJECT;
  if (protection === "unreadable") return isObject ? "unreadable" : "aside";
  const shouldBeOurs = isObject && aim.encrypts(resource);
  if (protection === "plaintext") return shouldBeOurs ? "stale" : "clear";
  if (protection === "other-provider") return shouldBeOurs ? "stale" : "aside";
  const expected = aim.providerOf(resource);
  const isOurs = expected === undefined || provider === kmsProvider(expected);
  return isOurs && keyId === aim.keyId ? "current" : "stale";
}

export interface SurveyRow extends Readonly<Record<ObjectState, number>> {
  readonly resource: string;
  readonly objects: number;
}

export interface Survey {
  /** In the order of the resources. */
  readonly rows: readonly SurveyRow[];
  /** The revision of etcd at which the last key was read. */
  readonly revision: number;
  /** The number of stale and unreadable objects. */
  readonly left: number;
}

/**
 * Reads all objects and counts their states.
 * @throws KmsError PEER_UNREACHABLE; INPUT_INVALID if it cannot be a cluster's etcd
 */
export async function takeSurvey(store: EtcdStore, aim: Aim, options: CountOptions): Promise<Survey> {
  const { usages } = (await takeCensus(store, options)).result();
  const rows = new Map<string, { -readonly [Name in keyof SurveyRow]: SurveyRow[Name] }>();
  for (const usage of usages) {
    for (const [resource, objects] of Object.entries(usage.resources)) {
      const row = rows.get(resource) ?? { resource, objects: 0, ...NONE };
      row.objects += objects;
      row[stateUnder(usage, resource, aim)] += objects;
      rows.set(resource, row);
    }
  }
  const all = [...rows.values()].sort((one, other) => (one.resource < other.resource ? -1 : 1));
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
