// One cluster's view of a token that several clusters share: the HSM port, limited to the KEK with the cluster's name. It
// refuses every other KEK, although the token's hosts know them all.
import { KmsError } from "../../errors.js";
import { onlyMayBeNamed } from "../key-id.js";
import type { Log } from "../../log.js";
import type { MechanismChoice } from "../mechanisms.js";
import type { Caller, CryptRequest, Hsm, HsmState, KekRecord, ProbeResult } from "../port.js";
import type { DatedKeks } from "../hosts/first-reading.js";
import type { TokenHsm } from "../token-hsm.js";
import type { KekName } from "../wire-calls.js";
import { namesOf, notOwned, type KekOwners } from "./kek-owners.js";
import type { SharedRuns } from "./shared-runs.js";

/** The proofs of all clusters take one turn. */
const PROOFS = "proofs of all clusters";
/** Background work uses idle lanes only. */
const NO_GROUP = "";

/** The token that clusters share. */
export interface ViewedToken {
  readonly hsm: TokenHsm;
  readonly readings: SharedRuns<DatedKeks>;
  readonly reloads: SharedRuns<readonly KekRecord[]>;
  probe(keyId: string, choice: MechanismChoice | "auto"): Promise<readonly ProbeResult[]>;
  prove(call: () => Promise<Buffer>): Promise<Buffer>;
}

/** Whose view it is. */
export interface ViewOptions {
  readonly cluster: string;
  readonly kek: KekName;
  readonly token: ViewedToken;
  readonly owners: KekOwners;
  readonly log: Log;
}

/** Implements the HSM port for one cluster on a shared token. */
export class ClusterView implements Hsm {
  readonly #options: ViewOptions;
  #records: readonly KekRecord[] = [];
  #keyIds: ReadonlySet<string> = new Set();
  #finding: string | undefined;
  #isClosed = false;

  constructor(options: ViewOptions) {
    this.#options = options;
  }

  /** Ends the view: readings no longer look for the cluster's KEK, so they must not count as its removal. */
  close(): void {
    this.#isClosed = true;
  }

  async encrypt(request: CryptRequest, caller: Caller): Promise<Buffer> {
    this.#requireOwn(request.keyId);
    const { hsm } = this.#options.token;
    return this.#inTurn(caller, (group) => hsm.encrypt(request, caller, group));
  }

  async decrypt(request: CryptRequest, caller: Caller): Promise<Buffer> {
    const keyId = this.#presentKeyId(request.keyId);
    const { hsm } = this.#options.token;
    return this.#inTurn(caller, (group) => hsm.decrypt({ ...request, keyId }, caller, group));
  }

  async listKeks(maxAgeMs = 0): Promise<readonly KekRecord[]> {
    return this.#own((await this.#options.token.readings.get(maxAgeMs)).keks);
  }

  async listKeksReloaded(maxAgeMs = 0): Promise<readonly KekRecord[]> {
    if (this.#isClosed) return this.#own([]);
    return this.#own(await this.#options.token.reloads.get(maxAgeMs));
  }

  async probe(keyId: string, choice: MechanismChoice | "auto"): Promise<readonly ProbeResult[]> {
    this.#requireOwn(keyId);
    return this.#options.token.probe(keyId, choice);
  }

  state(): HsmState {
    const state = this.#options.token.hsm.state();
    return state.up && this.#finding !== undefined ? { ...state, finding: this.#finding } : state;
  }

  #inTurn({ isProof, isBackground }: Caller, call: (group: string) => Promise<Buffer>): Promise<Buffer> {
    const { token, cluster } = this.#options;
    if (isProof === true) return token.prove(() => call(PROOFS));
    return call(isBackground === true ? NO_GROUP : cluster);
  }

  #requireOwn(keyId: string): void {
    if (!this.#keyIds.has(keyId)) throw notOwned(keyId);
  }

  /**
   * Returns the present key_id of the KEK that has a key_id, or of the only one that may have had it earlier. The token would
   * also look among other clusters' KEKs. @throws KmsError KEY_MISSING
   */
  #presentKeyId(keyId: string): string {
    if (this.#keyIds.has(keyId)) return keyId;
    const keks = this.#records.map((record) => ({ record }));
    const only = onlyMayBeNamed(keks, keyId);
    if (only === undefined) throw notOwned(keyId);
    return only.record.keyId;
  }

  /** Returns the cluster's KEKs among those of a reading. */
  #own(all: readonly KekRecord[]): readonly KekRecord[] {
    if (this.#isClosed) throw new KmsError("STOPPING", "the cluster is no longer served");
    const { cluster, kek, owners, log, token } = this.#options;
    const named = all.filter(
      ({ label, ckaId }) =>
        label.split("@", 1)[0] === kek.objectName && (kek.ckaId === undefined || kek.ckaId === ckaId),
    );
    const { records, finding } = owners.claim(cluster, token, named);
    if (finding !== undefined && finding !== this.#finding) log.error({ cluster }, finding);
    this.#finding = finding;
    this.#records = records;
    this.#keyIds = new Set(records.flatMap(namesOf));
    return records;
  }
}
