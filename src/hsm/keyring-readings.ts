// Readings of the keyring over the hosts of one token. A reading keeps a host busy, and one that hangs loses it: so
// hosts are read one after the other, and never the last one that requests have, once a reading has hung.
import { KmsError } from "../errors.js";
import type { TokenHost } from "./token-host.js";
import { Op, type KekRecord } from "./wire.js";

/** What readings need of the pool. */
export interface ReadingHosts {
  /** Hosts that may be given requests, the serving one first. */
  readonly ready: readonly TokenHost[];
  /** How many there are when all is well. */
  readonly configured: number;
  /** The serving host, after waiting for a start that has not failed yet. @throws KmsError */
  serving(): Promise<TokenHost>;
  /** @throws KmsError */
  call(host: TokenHost, op: Op, value: unknown): Promise<unknown>;
  /** Returns a ready host that `wanted` accepts; undefined when a start has failed, or took too long. */
  whenReady(wanted: (host: TokenHost) => boolean): Promise<TokenHost | undefined>;
}

export class KeyringReadings {
  readonly #hosts: ReadingHosts;
  /** A reading has hung, and none has ended well since. */
  #hung = false;
  /** Hosts that were there when a key was missed, until a later one has been read. */
  readonly #doubted = new Set<TokenHost>();

  constructor(hosts: ReadingHosts) {
    this.#hosts = hosts;
  }

  /** @throws KmsError */
  async read(): Promise<readonly KekRecord[]> {
    const host = await this.#spare();
    const records = await this.#readOn(host);
    void this.#refreshOthers(host, records);
    return records;
  }

  /**
   * Reads on a host that started after the request for it; that host replaces a spare one.
   * Where it shows other keys than the earlier hosts do, they are replaced too. @throws KmsError
   */
  async readAnew(): Promise<readonly KekRecord[]> {
    const fresh = await this.#fresh();
    const records = await this.#readOn(fresh);
    for (const host of this.#hosts.ready) {
      if (host === fresh || !this.#doubted.has(host)) continue;
      const earlier = await this.#readOn(host).catch(() => undefined);
      if (earlier === undefined || namesOf(earlier) !== namesOf(records)) host.kill("device");
    }
    this.#doubted.clear();
    return records;
  }

  async #fresh(): Promise<TokenHost> {
    if (this.#doubted.size === 0) {
      if (this.#hosts.configured > 1) await this.#hosts.whenReady(() => this.#hosts.ready.length > 1);
      if (this.#isLast()) throw this.#refusal();
      for (const host of this.#hosts.ready) this.#doubted.add(host);
      this.#hosts.ready.at(-1)?.kill("reload");
    }
    const fresh = await this.#hosts.whenReady((host) => !this.#doubted.has(host));
    if (fresh !== undefined) return fresh;
    // The library that is loaded may go on showing a token that is away, and empty.
    throw new KmsError("HSM_UNAVAILABLE", "no token host can be started to read the token");
  }

  /** Keeps idle sessions alive and handles fresh. A host that was idle while the token was away may show less since. */
  async #refreshOthers(first: TokenHost, shown: readonly KekRecord[]): Promise<void> {
    for (const host of this.#hosts.ready) {
      if (host === first || this.#isLast()) continue;
      const records = await this.#readOn(host).catch(() => undefined);
      if (records !== undefined && host.alive && namesOf(records) !== namesOf(shown)) host.kill("reload");
    }
  }

  async #readOn(host: TokenHost): Promise<readonly KekRecord[]> {
    try {
      const records = (await this.#hosts.call(host, Op.listKeks, {})) as KekRecord[];
      this.#hung = false;
      return records;
    } catch (error) {
      if (host.endCause === "hang") this.#hung = true;
      if (host.alive) throw error;
    }
    // Lost over it: once more, on another one.
    const other = await this.#hosts.whenReady(() => !this.#isLast());
    if (other === undefined) throw this.#refusal();
    return (await this.#hosts.call(other, Op.listKeks, {})) as KekRecord[];
  }

  async #spare(): Promise<TokenHost> {
    const serving = await this.#hosts.serving();
    if (this.#isLast()) throw this.#refusal();
    return serving;
  }

  /** Whether requests would be left without a host if a reading hung now. */
  #isLast(): boolean {
    return this.#hung && this.#hosts.configured > 1 && this.#hosts.ready.length <= 1;
  }

  #refusal(): KmsError {
    return new KmsError(
      "HSM_UNAVAILABLE",
      "the token cannot be read: a reading has hung, and the token host that is left is kept for requests",
    );
  }
}

function namesOf(records: readonly KekRecord[]): string {
  return records
    .map(({ keyId }) => keyId)
    .sort()
    .join(" ");
}
