// How far a migration is: by resource, what is under the active key, what is not though it should be, and what is
// in clear because nobody wants it encrypted.
import { KmsError } from "../errors.js";
import { Allowance } from "./bounded-set.js";
import type { EtcdStore, StoreObserver } from "./store.js";
import { parseStorageKey, resourceName, type ApiObjectName } from "./storage-key.js";
import type { StoredValue } from "./stored-object.js";

/** What should be stored how. */
export interface Aim {
  readonly keyId: string;
  /** Whether a resource is to be encrypted: what is in clear of it is then stale. */
  encrypts(resource: string): boolean;
  /** The name of the KMS v2 provider that writes a resource; undefined when that is not known, or another kind writes it. */
  providerOf(resource: string): string | undefined;
}

/** `clear` and `aside` are as nobody minds: in clear, or otherwise what this migration is not about. */
export type Standing = "current" | "stale" | "clear" | "aside" | "unreadable";

const MAX_RESOURCES = 10_000;
/** Stands for keys that are no objects of the API. */
const NO_RESOURCE = "(no API object)";

export function resourceOf(object: ApiObjectName | undefined): string {
  return object === undefined ? NO_RESOURCE : resourceName(object);
}

export function standingOf(
  value: StoredValue | KmsError,
  object: ApiObjectName | undefined,
  aim: Aim,
): Standing {
  if (value instanceof KmsError) return object === undefined ? "aside" : "unreadable";
  const resource = resourceOf(object);
  const shouldBeOurs = object !== undefined && aim.encrypts(resource);
  if (value.kind === "plaintext") return shouldBeOurs ? "stale" : "clear";
  if (value.kind === "other-provider") return shouldBeOurs ? "stale" : "aside";
  const provider = aim.providerOf(resource);
  const isOurs = provider === undefined || value.providerName === provider;
  return isOurs && value.object.keyId === aim.keyId ? "current" : "stale";
}

export interface SurveyRow extends Readonly<Record<Standing, number>> {
  readonly resource: string;
  readonly objects: number;
}

export interface Survey {
  /** In the order of the keys. */
  readonly rows: readonly SurveyRow[];
  /** etcd's, when the last key was read. */
  readonly revision: number;
  /** What is not as it should be: stale or unreadable. */
  readonly left: number;
}

/** @throws KmsError PEER_UNREACHABLE; INPUT_INVALID when there are more resources than any cluster has */
export async function takeSurvey(
  store: EtcdStore,
  prefix: string,
  aim: Aim,
  observer: StoreObserver & { read?(objects: number): void } = {},
): Promise<Survey> {
  const rows = new Map<string, { -readonly [Name in keyof SurveyRow]: SurveyRow[Name] }>();
  const room = new Allowance(MAX_RESOURCES);
  let read = 0;
  for await (const { key, value } of store.objects(observer)) {
    const object = parseStorageKey(key, prefix);
    const resource = resourceOf(object);
    let row = rows.get(resource);
    if (row === undefined) {
      room.insist("resources");
      rows.set(resource, (row = { resource, objects: 0, ...NONE }));
    }
    row.objects++;
    row[standingOf(value, object, aim)]++;
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

/** Resources of which something is encrypted already, by whatever provider. */
export function encryptedResources({ rows }: Survey): string[] {
  return rows
    .filter(({ current, stale, aside }) => current + stale + aside > 0)
    .map(({ resource }) => resource);
}
