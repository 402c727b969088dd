// The census: how many objects each provider and each key_id protects. Takes objects one by one and keeps only counts,
// so a million objects need no more memory than a thousand.
import { createHash } from "node:crypto";
import { KmsError } from "../errors.js";
import { Allowance, BoundedSet, type DistinctCount } from "./bounded-set.js";
import { parseStorageKey, resourceOf, type ApiObjectName } from "./storage-key.js";
import type { StoredObject } from "./store.js";
import type { EncryptedObject } from "./stored-object.js";

export type Protection = "kms-v2" | "other-provider" | "plaintext" | "unreadable";

/** The objects under one key of one provider. */
export interface Usage {
  readonly protection: Protection;
  /**
   * From the stored prefix, such as `kms:v2:kms-pkcs11` or `aescbc:v1:key1`; empty for plaintext and unreadable
   * objects.
   */
  readonly provider: string;
  /** Null except for KMS v2. */
  readonly keyId: string | null;
  readonly objects: number;
  /** Distinct encrypted DEK seeds, each of which a restarted API server asks the plugin for; null except for KMS v2. */
  readonly seeds: DistinctCount | null;
  readonly resources: Readonly<Record<string, number>>;
  readonly namespaces: DistinctCount;
  /** Smallest and largest mod_revision. */
  readonly oldestRevision: number;
  readonly newestRevision: number;
}

export interface CensusResult {
  readonly objects: number;
  readonly usages: readonly Usage[];
  /** By resource, the objects in clear that should be encrypted; null if the caller did not say which should be. */
  readonly plaintextToEncrypt: Readonly<Record<string, number>> | null;
  /** The first few unreadable values. */
  readonly unreadable: readonly { readonly key: string; readonly reason: string }[];
}

export interface CensusOptions {
  readonly prefix: string;
  /** Returns whether API servers are configured to encrypt the object. */
  readonly shouldBeEncrypted?: (object: ApiObjectName) => boolean;
  /** How many DEK seeds, and how many namespaces, are distinguished; default 200,000. */
  readonly maxDistinct?: number;
}

const MAX_SAMPLES = 20;
const MAX_KEYS = 10_000;
/** The sum over all keys of the resources under each. */
const MAX_RESOURCES = 100_000;
/** The distinct values of all keys together, at about 100 bytes each. */
const MAX_DISTINCT = 200_000;

/** Shared by all rows, so that many rows take no more memory than one. */
interface Allowances {
  readonly seeds: Allowance;
  readonly namespaces: Allowance;
  readonly resources: Allowance;
}

export class Census {
  readonly #options: CensusOptions;
  readonly #rows = new Map<string, Row>();
  readonly #keys = new Allowance(MAX_KEYS);
  readonly #allowances: Allowances;
  readonly #plain = new Map<string, number>();
  readonly #unreadable: { key: string; reason: string }[] = [];
  readonly #recentSeeds = new RecentSeeds();
  #objects = 0;

  constructor(options: CensusOptions) {
    this.#options = options;
    const { maxDistinct = MAX_DISTINCT } = options;
    this.#allowances = {
      seeds: new Allowance(maxDistinct),
      namespaces: new Allowance(maxDistinct),
      resources: new Allowance(MAX_RESOURCES),
    };
  }

  /** Counts one object. @throws KmsError INPUT_INVALID if there are more key_ids or resources than any cluster has */
  add({ key, modRevision, value }: StoredObject): void {
    this.#objects++;
    const name = parseStorageKey(key, this.#options.prefix);
    const resource = resourceOf(name);
    let row: Row;
    if (value instanceof KmsError) {
      row = this.#row("unreadable", "", null);
      if (this.#unreadable.length < MAX_SAMPLES) this.#unreadable.push({ key, reason: value.message });
    } else if (value.kind === "kms-v2") {
      row = this.#row("kms-v2", `kms:v2:${value.providerName}`, value.object.keyId);
      row.addSeed(value.object);
    } else if (value.kind === "other-provider") {
      row = this.#row("other-provider", `${value.provider}:${value.keyName}`, null);
    } else {
      row = this.#row("plaintext", "", null);
      if (name !== undefined && this.#options.shouldBeEncrypted?.(name) === true) {
        this.#plain.set(resource, (this.#plain.get(resource) ?? 0) + 1);
      }
    }
    row.add(resource, name?.namespace, modRevision);
  }

  result(): CensusResult {
    return {
      objects: this.#objects,
      usages: [...this.#rows.values()].map((row) => row.usage()),
      plaintextToEncrypt:
        this.#options.shouldBeEncrypted === undefined ? null : Object.fromEntries(this.#plain),
      unreadable: this.#unreadable,
    };
  }

  #row(protection: Protection, provider: string, keyId: string | null): Row {
    const id = `${protection}\0${provider}\0${keyId ?? ""}`;
    let row = this.#rows.get(id);
    if (row === undefined) {
      this.#keys.require("keys");
      row = new Row({ protection, provider, keyId }, this.#allowances, this.#recentSeeds);
      this.#rows.set(id, row);
    }
    return row;
  }
}

type Head = Pick<Usage, "protection" | "provider" | "keyId">;

class Row {
  readonly #head: Head;
  readonly #allowances: Allowances;
  readonly #seeds: BoundedSet;
  readonly #namespaces: BoundedSet;
  readonly #resources = new Map<string, number>();
  readonly #recentSeeds: RecentSeeds;
  #objects = 0;
  #oldest = Infinity;
  #newest = 0;

  constructor(head: Head, allowances: Allowances, recentSeeds: RecentSeeds) {
    this.#head = head;
    this.#recentSeeds = recentSeeds;
    this.#allowances = allowances;
    this.#seeds = new BoundedSet(allowances.seeds);
    this.#namespaces = new BoundedSet(allowances.namespaces);
  }

  add(resource: string, namespace: string | undefined, revision: number): void {
    this.#objects++;
    if (namespace !== undefined) this.#namespaces.add(namespace);
    const before = this.#resources.get(resource);
    if (before === undefined) this.#allowances.resources.require("resources");
    this.#resources.set(resource, (before ?? 0) + 1);
    this.#oldest = Math.min(this.#oldest, revision);
    this.#newest = Math.max(this.#newest, revision);
  }

  addSeed({ encryptedSeed, seedUse }: EncryptedObject): void {
    if (!this.#recentSeeds.add(this, encryptedSeed, seedUse)) return;
    const digest = createHash("sha256").update(seedUse).update(encryptedSeed).digest();
    this.#seeds.add(digest.toString("latin1"));
  }

  usage(): Usage {
    return {
      ...this.#head,
      objects: this.#objects,
      seeds: this.#head.protection === "kms-v2" ? this.#seeds.distinct : null,
      resources: Object.fromEntries([...this.#resources].sort(([a], [b]) => (a < b ? -1 : 1))),
      namespaces: this.#namespaces.distinct,
      oldestRevision: this.#oldest,
      newestRevision: this.#newest,
    };
  }
}

/** A cluster has one seed per start of an API server; each takes about 250 bytes here, at most 1,200. */
const MAX_RECENT_SEEDS = 4_096;

/** The DEK seeds of the last objects. Many objects are under one seed, and a lookup here is faster than a digest of it. */
class RecentSeeds {
  #seeds = new Map<string, Row>();

  /** Returns whether the seed of a row is not among the recent ones, and adds it. */
  add(row: Row, seed: Uint8Array, use: string): boolean {
    const text = use + Buffer.from(seed.buffer, seed.byteOffset, seed.length).toString("latin1");
    if (this.#seeds.get(text) === row) return false;
    if (this.#seeds.size >= MAX_RECENT_SEEDS) this.#seeds = new Map();
    this.#seeds.set(text, row);
    return true;
  }
}
