// The tokens of a plugin that serves several clusters. Clusters whose URIs name the same token share its hosts, sessions,
// PIN and health; a token is opened for the first of them and closed after the last.
import { tokenIdentity } from "../config/clusters.js";
import { environmentWithoutPin } from "../config/pin-source.js";
import { formatPkcs11Uri } from "../config/pkcs11-uri.js";
import type { Settings, TokenSettings } from "../config/settings.js";
import { pinSourcesOf } from "../config/tokens.js";
import { KekOwners } from "../hsm/shared/kek-owners.js";
import { SharedToken } from "../hsm/shared/shared-token.js";
import type { TokenHsm } from "../hsm/token-hsm.js";
import type { KekName } from "../hsm/wire-calls.js";
import { usedKeyIds } from "../provider/key-memory.js";
import { ReadingTurns } from "../provider/reading-turns.js";
import type { LibraryKind } from "../provider/reload-schedule.js";
import type { ClusterHsm } from "./cluster.js";
import type { ServiceStart } from "./service.js";
import { memoryOf } from "./provider.js";
import { combine, kekNameOf, openConfigured, type LockedToken, type OpenedToken } from "./tokens.js";

interface Opened extends OpenedToken {
  readonly identity: string;
  readonly shared: SharedToken;
  readonly library: LibraryKind;
  readonly turns: ReadingTurns;
}

/** Opens and closes the tokens of clusters. */
export class ClusterTokens {
  readonly #start: ServiceStart;
  readonly #owners = new KekOwners();
  readonly #opened = new Map<string, Opened>();
  /** The KEKs of clusters by their tokens' identities. */
  readonly #expected = new Map<string, Map<string, KekName>>();
  /** Whether tokens that are opened now are started at once. */
  #isRunning = false;

  constructor(start: ServiceStart) {
    this.#start = start;
  }

  get tokens(): readonly TokenHsm[] {
    return [...this.#opened.values()].map(({ hsm }) => hsm);
  }

  get locked(): readonly LockedToken[] {
    return [...this.#opened.values()].flatMap(({ locked }) => locked ?? []);
  }

  /** Starts the tokens that are open, and those that are opened from now on. */
  begin(): void {
    this.#isRunning = true;
    for (const token of this.tokens) token.start();
  }

  /** Opens the tokens of a cluster, without adding it, so that their hosts can load their packages. */
  prepare(settings: Settings): void {
    for (const token of settings.tokens) this.#token(settings, token);
  }

  /** Has tokens, once a cluster that is opened uses them, look for the KEKs of all these clusters, which are opened next. */
  expect(all: readonly Settings[]): void {
    this.#expected.clear();
    for (const settings of all) {
      const tokens = new Set(settings.tokens.map(tokenIdentity));
      this.#owners.reserve(nameOf(settings), usedKeyIds(memoryOf(settings)), tokens.size);
      for (const token of settings.tokens) {
        const identity = tokenIdentity(token);
        const keks = this.#expected.get(identity) ?? new Map<string, KekName>();
        this.#expected.set(identity, keks.set(nameOf(settings), kekNameOf(settings, token)));
      }
    }
    for (const { identity, shared } of this.#opened.values()) this.#announce(identity, shared);
  }

  /** Returns the HSM for a cluster, and opens its tokens unless another cluster has. */
  open(settings: Settings): ClusterHsm {
    const name = nameOf(settings);
    const members = settings.tokens.map((token) => {
      const opened = this.#token(settings, token);
      const hsm = opened.shared.add(name, kekNameOf(settings, token));
      return { name: formatPkcs11Uri(token.uri), hsm, opened };
    });
    const [first] = members;
    return {
      port: combine(members, settings, this.#start.log),
      pins: members.map(({ opened }) => opened.pin),
      // In a failover set, tokens may have libraries of different kinds.
      library: first !== undefined && members.length === 1 ? first.opened.library : {},
      otherClusters: {
        // All tokens of a failover set are read together.
        turns: first?.opened.turns ?? new ReadingTurns(),
        have: (keyId) => this.#owners.isForeign(name, keyId),
      },
    };
  }

  /** Gives up the KEKs that are reserved for clusters with other names. */
  keepOnly(wanted: ReadonlySet<string>): void {
    this.#owners.keepOnly(wanted);
  }

  /** Closes the tokens that only this cluster uses. @param graceMs for closing their sessions */
  async close(cluster: string, graceMs: number): Promise<void> {
    this.#owners.release(cluster);
    const unused = [...this.#opened.values()].filter(({ shared }) => {
      shared.remove(cluster);
      return shared.isUnused;
    });
    for (const { identity } of unused) this.#opened.delete(identity);
    await Promise.all(
      unused.map(async ({ hsm, locked }) => {
        await hsm.stop(graceMs);
        locked?.held.forget();
      }),
    );
  }

  #announce(identity: string, shared: SharedToken): void {
    const keks = this.#expected.get(identity);
    if (keks !== undefined) shared.expect(keks);
  }

  #token(settings: Settings, token: TokenSettings): Opened {
    const identity = tokenIdentity(token);
    const known = this.#opened.get(identity);
    if (known !== undefined) return known;
    const { env, hostEnv, observer, log } = this.#start;
    const configured = openConfigured({ settings, token, observer, log, env: hostEnv }, env);
    const shared = new SharedToken(configured.hsm, this.#owners, log);
    const opened = { ...configured, identity, shared, library: {}, turns: new ReadingTurns() };
    this.#opened.set(identity, opened);
    this.#announce(identity, shared);
    if (this.#isRunning) opened.hsm.start();
    return opened;
  }
}

function nameOf({ cluster }: Settings): string {
  return cluster?.name ?? "";
}

/** Returns the environment of token hosts, without the PINs of any cluster. */
export function environmentOfHosts(env: NodeJS.ProcessEnv, all: readonly Settings[]): NodeJS.ProcessEnv {
  return environmentWithoutPin(
    env,
    all.flatMap(({ tokens }) => tokens.flatMap(pinSourcesOf)),
  );
}
