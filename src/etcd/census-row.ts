// One row of a census: the objects under one key of one provider.
import { hash } from "node:crypto";
import { BoundedSet, type Allowance, type DistinctCount, type DistinctValues } from "./bounded-set.js";
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

/** Shared by all rows, so that many rows take no more memory than one. */
export interface Allowances {
  readonly seeds: Allowance;
  readonly namespaces: Allowance;
  readonly resources: Allowance;
}

type Head = Pick<Usage, "protection" | "provider" | "keyId">;

/** A row in a form that can be sent to another thread. */
export interface RowPart extends Head {
  readonly seeds: DistinctValues;
  readonly namespaces: DistinctValues;
  readonly resources: ReadonlyMap<string, number>;
  readonly oldest: number;
  readonly newest: number;
}

export class Row {
  readonly #head: Head;
  readonly #allowances: Allowances;
  readonly #seeds: BoundedSet;
  readonly #namespaces: BoundedSet;
  readonly #resources = new Map<string, number>();
  #oldest = Infinity;
  #newest = 0;

  constructor(head: Head, allowances: Allowances) {
    this.#head = head;
    this.#allowances = allowances;
    this.#seeds = new BoundedSet(allowances.seeds);
    this.#namespaces = new BoundedSet(allowances.namespaces);
  }

  get objects(): number {
    return [...this.#resources.values()].reduce((sum, objects) => sum + objects, 0);
  }

  isOf(protection: Protection, provider: string, keyId: string | null): boolean {
    const head = this.#head;
    return head.protection === protection && head.keyId === keyId && head.provider === provider;
  }

  /** Counts one object. @throws KmsError INPUT_INVALID if there are more resources than any cluster has */
  add(resource: string, namespace: string | undefined, revision: number): void {
    if (namespace !== undefined) this.#namespaces.add(namespace);
    this.#addObjects(resource, 1);
    this.#oldest = Math.min(this.#oldest, revision);
    this.#newest = Math.max(this.#newest, revision);
  }

  addSeed({ encryptedSeed, seedUse }: EncryptedObject): void {
    const digest = hash("sha256", encryptedSeed, "binary");
    this.#seeds.add(seedUse === "hkdf-sha256-seed" ? digest : `${seedUse}:${digest}`);
  }

  part(): RowPart {
    return {
      ...this.#head,
      seeds: this.#seeds.values,
      namespaces: this.#namespaces.values,
      resources: this.#resources,
      oldest: this.#oldest,
      newest: this.#newest,
    };
  }

  merge({ seeds, namespaces, resources, oldest, newest }: RowPart): void {
    this.#seeds.merge(seeds);
    this.#namespaces.merge(namespaces);
    for (const [resource, objects] of resources) this.#addObjects(resource, objects);
    this.#oldest = Math.min(this.#oldest, oldest);
    this.#newest = Math.max(this.#newest, newest);
  }

  usage(): Usage {
    return {
      ...this.#head,
      objects: this.objects,
      seeds: this.#head.protection === "kms-v2" ? this.#seeds.distinct : null,
      resources: Object.fromEntries([...this.#resources].sort(([a], [b]) => (a < b ? -1 : 1))),
      namespaces: this.#namespaces.distinct,
      oldestRevision: this.#oldest,
      newestRevision: this.#newest,
    };
  }

  #addObjects(resource: string, objects: number): void {
    const before = this.#resources.get(resource);
    if (before === undefined) this.#allowances.resources.require("resources");
    this.#resources.set(resource, (before ?? 0) + objects);
  }
}

/** Returns how a row names a provider of KMS v2. */
export function kmsProvider(name: string): string {
  return `kms:v2:${name}`;
}

const PROTECTIONS: readonly Protection[] = ["kms-v2", "other-provider", "plaintext", "unreadable"];

/** Returns a text in whose order rows are listed. */
export function orderOf({ protection, provider, keyId }: Head): string {
  return `${PROTECTIONS.indexOf(protection)}\0${provider}\0${keyId ?? ""}`;
}
