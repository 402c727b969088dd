// The census: how many objects each provider and each key_id protects. Takes objects one by one, or the parts that several
// threads have counted, and keeps only counts, so a million objects need no more memory than a thousand.
import { KmsError } from "../errors.js";
import { Allowance } from "./bounded-set.js";
import {
  kmsProvider,
  orderOf,
  Row,
  type Allowances,
  type Protection,
  type RowPart,
  type Usage,
} from "./census-row.js";
import { parseStorageKey, resourceName, resourceOf, type ApiObjectName } from "./storage-key.js";
import type { StoredObject } from "./store.js";

export interface CensusResult {
  readonly objects: number;
  /** In the order of protection, provider and key_id. */
  readonly usages: readonly Usage[];
  /** By resource, the objects in clear that should be encrypted; null if the caller did not say which should be. */
  readonly plaintextToEncrypt: Readonly<Record<string, number>> | null;
  /** The first unreadable values in the order of their keys. */
  readonly unreadable: readonly Unreadable[];
}

interface Unreadable {
  readonly key: string;
  readonly reason: string;
}

export interface CensusOptions {
  readonly prefix: string;
  /** How many DEK seeds, and how many namespaces, are distinguished; default 200,000. */
  readonly maxDistinct?: number;
}

/** What one census has counted, in a form that can be sent to another thread. */
export interface CensusPart {
  readonly rows: readonly RowPart[];
  readonly plaintext: readonly Readonly<PlaintextCount>[];
  readonly unreadable: readonly Unreadable[];
}

/** The objects in clear of one resource. */
interface PlaintextCount {
  readonly name: ResourceName;
  objects: number;
}

type ResourceName = Pick<ApiObjectName, "group" | "resource">;

const MAX_SAMPLES = 20;
const MAX_KEYS = 10_000;
/** The sum over all keys of the resources under each. */
const MAX_RESOURCES = 100_000;
/** The distinct values of all keys together, at about 100 bytes each. */
const MAX_DISTINCT = 200_000;

export class Census {
  readonly #prefix: string;
  readonly #rows = new Map<string, Row>();
  readonly #keys = new Allowance(MAX_KEYS);
  readonly #allowances: Allowances;
  readonly #plain = new Map<string, PlaintextCount>();
  #unreadable: Unreadable[] = [];
  #latest: Row | undefined;

  constructor({ prefix, maxDistinct = MAX_DISTINCT }: CensusOptions) {
    this.#prefix = prefix;
    this.#allowances = {
      seeds: new Allowance(maxDistinct),
      namespaces: new Allowance(maxDistinct),
      resources: new Allowance(MAX_RESOURCES),
    };
  }

  /** Counts one object. @throws KmsError INPUT_INVALID if there are more key_ids or resources than any cluster has */
  add({ key, modRevision, value }: StoredObject): void {
    const name = parseStorageKey(key, this.#prefix);
    const resource = resourceOf(name);
    let row: Row;
    if (value instanceof KmsError) {
      row = this.#row("unreadable", "", null);
      this.#addUnreadable([{ key, reason: value.message }]);
    } else if (value.kind === "kms-v2") {
      row = this.#row("kms-v2", kmsProvider(value.providerName), value.object.keyId);
      row.addSeed(value.object);
    } else if (value.kind === "other-provider") {
      row = this.#row("other-provider", `${value.provider}:${value.keyName}`, null);
    } else {
      row = this.#row("plaintext", "", null);
      if (name !== undefined) this.#addPlaintext(resource, name, 1);
    }
    row.add(resource, name?.namespace, modRevision);
  }

  /** Returns what was counted so far. */
  part(): CensusPart {
    return {
      rows: [...this.#rows.values()].map((row) => row.part()),
      plaintext: [...this.#plain.values()],
      unreadable: this.#unreadable,
    };
  }

  /** Adds what another census has counted of other objects. @throws KmsError INPUT_INVALID as `add` does */
  merge({ rows, plaintext, unreadable }: CensusPart): void {
    for (const part of rows) this.#row(part.protection, part.provider, part.keyId).merge(part);
    for (const { name, objects } of plaintext) this.#addPlaintext(resourceName(name), name, objects);
    this.#addUnreadable(unreadable);
  }

  /** The number of objects that were counted. */
  get objects(): number {
    return [...this.#rows.values()].reduce((sum, row) => sum + row.objects, 0);
  }

  /** @param shouldBeEncrypted whether API servers are configured to encrypt a resource */
  result(shouldBeEncrypted?: (name: ResourceName) => boolean): CensusResult {
    const usages = [...this.#rows.values()].map((row) => row.usage());
    const inClear = [...this.#plain]
      .filter(([, { name }]) => shouldBeEncrypted?.(name))
      .map(([resource, { objects }]): [string, number] => [resource, objects]);
    return {
      objects: this.objects,
      usages: usages.sort((one, other) => (orderOf(one) < orderOf(other) ? -1 : 1)),
      plaintextToEncrypt: shouldBeEncrypted === undefined ? null : Object.fromEntries(inClear.sort()),
      unreadable: this.#unreadable,
    };
  }

  #addPlaintext(id: string, { group, resource }: ResourceName, objects: number): void {
    const known = this.#plain.get(id);
    if (known === undefined) this.#plain.set(id, { name: { group, resource }, objects });
    else known.objects += objects;
  }

  /** Keeps the first ones, so that they do not depend on the order of the scan. */
  #addUnreadable(more: readonly Unreadable[]): void {
    const all = [...this.#unreadable, ...more];
    this.#unreadable = all.sort((one, other) => (one.key < other.key ? -1 : 1)).slice(0, MAX_SAMPLES);
  }

  #row(protection: Protection, provider: string, keyId: string | null): Row {
    if (this.#latest?.isOf(protection, provider, keyId) === true) return this.#latest;
    const id = `${protection}\0${provider}\0${keyId ?? ""}`;
    let row = this.#rows.get(id);
    if (row === undefined) {
      this.#keys.require("keys");
      row = new Row({ protection, provider, keyId }, this.#allowances);
      this.#rows.set(id, row);
    }
    return (this.#latest = row);
  }
}
