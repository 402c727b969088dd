// A token that several clusters share: its hosts, sessions, PIN and health, and its readings, which serve all clusters.
// Clusters may come and go while it runs.
import type { Log } from "../../log.js";
import type { MechanismChoice } from "../mechanisms.js";
import type { Hsm, KekRecord, ProbeResult } from "../port.js";
import type { DatedKeks } from "../hosts/first-reading.js";
import type { TokenHsm } from "../token-hsm.js";
import type { KekName } from "../wire-calls.js";
import { ClusterView, type ViewedToken } from "./cluster-view.js";
import type { KekOwners } from "./kek-owners.js";
import { ProofTurns } from "./proof-turns.js";
import { SharedRuns } from "./shared-runs.js";

/** Number of proofs that are made at a time on a fast token, so that it finds the next one when it has answered one. */
const PROOFS_AT_ONCE = 2;
/** Part of the lanes of a slow token that proofs may occupy; one lane is occupied by one proof at a time. */
const SHARE_OF_LANES = 3 / 4;

interface Sharer {
  readonly kek: KekName;
  /** Undefined until the cluster is opened. */
  view?: ClusterView;
}

/** Holds one token and the clusters that use it. */
export class SharedToken implements ViewedToken {
  readonly hsm: TokenHsm;
  readonly readings: SharedRuns<DatedKeks>;
  readonly reloads: SharedRuns<readonly KekRecord[]>;
  readonly #owners: KekOwners;
  readonly #log: Log;
  readonly #clusters = new Map<string, Sharer>();
  /**
   * Trials of mechanisms and calls of proofs. A trial keeps a lane busy for many calls: if trials took turns of their own,
   * they could occupy the only lane of a slow token until proofs are late.
   */
  readonly #proofs = new ProofTurns(() => {
    const { count, areSlow } = this.hsm.lanes;
    return areSlow ? Math.max(1, Math.floor(SHARE_OF_LANES * count)) : PROOFS_AT_ONCE;
  });

  constructor(hsm: TokenHsm, owners: KekOwners, log: Log) {
    this.hsm = hsm;
    this.readings = new SharedRuns(
      (maxAgeMs) => hsm.listDatedKeks(maxAgeMs),
      ({ beganAt }) => beganAt,
    );
    this.reloads = new SharedRuns(() => hsm.listKeksReloaded());
    this.#owners = owners;
    this.#log = log;
  }

  /** Whether no cluster uses the token. */
  get isUnused(): boolean {
    return this.#clusters.size === 0;
  }

  /**
   * Has the next reading show the KEKs of clusters that will be added. Announced one by one, each would make the token hosts
   * begin their reading again.
   */
  expect(keks: ReadonlyMap<string, KekName>): void {
    const added = [...keks].filter(([cluster]) => !this.#clusters.has(cluster));
    if (added.length === 0) return;
    for (const [cluster, kek] of added) this.#clusters.set(cluster, { kek });
    this.#announce();
  }

  /** Adds a cluster, whose KEK the next reading shows unless it was expected, and returns its view. */
  add(cluster: string, kek: KekName): Hsm {
    const view = new ClusterView({ cluster, kek, token: this, owners: this.#owners, log: this.#log });
    const known = this.#clusters.get(cluster);
    if (known !== undefined && isSame(known.kek, kek)) known.view = view;
    else {
      this.#clusters.set(cluster, { kek, view });
      this.#announce();
    }
    return view;
  }

  /** Removes a cluster. The token stays open. */
  remove(cluster: string): void {
    this.#clusters.get(cluster)?.view?.close();
    if (this.#clusters.delete(cluster) && !this.isUnused) this.#announce();
  }

  /** Tests mechanisms with a KEK in its turn; the other clusters' requests are served meanwhile. @throws KmsError */
  probe(keyId: string, choice: MechanismChoice | "auto"): Promise<readonly ProbeResult[]> {
    return this.#proofs.make(() => this.hsm.probe(keyId, choice));
  }

  /** Makes one call of a proof in its turn. @throws KmsError */
  prove(call: () => Promise<Buffer>): Promise<Buffer> {
    return this.#proofs.make(call);
  }

  #announce(): void {
    const [first, ...others] = [...this.#clusters.values()].map(({ kek }) => kek);
    if (first !== undefined) this.hsm.setKeks({ ...first, others });
    this.readings.invalidate();
    this.reloads.invalidate();
  }
}

function isSame(one: KekName, other: KekName): boolean {
  return one.objectName === other.objectName && one.ckaId === other.ckaId;
}
