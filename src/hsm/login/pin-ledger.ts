// Holds what is known about a PIN before it is tried: it was refused, it has logged in, or its last attempt had no
// clear answer. An attempt is recorded before it is made, since the process may die during it. An attempt that cannot
// be recorded is not made.
import { randomUUID } from "node:crypto";
import { KmsError } from "../../errors.js";
import type { Log } from "../../log.js";
import { digestPin, markPin } from "./pin-digest.js";
import { LoginRecord, type LoginStores, type PinRecord, type PinRecords } from "./login-record.js";
import { askToRepair } from "../../files/state-file.js";
import type { PinVerdict } from "../fault.js";

/** A PIN that is about to be tried on a token. */
export interface Candidate {
  /** A digest of what identifies the token. */
  readonly token: string;
  readonly source: string;
  readonly stamp: string;
  readonly showsChange: boolean;
  readonly pin: Buffer;
  readonly digest: string;
}

/** What a candidate takes from its PIN source and token. */
export type CandidateSource = Pick<Candidate, "token" | "source" | "stamp" | "showsChange">;

/** An attempt that has been recorded and has no answer yet. */
interface Begun {
  readonly record: PinRecord;
  readonly before: PinRecords;
  /** The records in `before` that concern other PINs. */
  readonly others: PinRecords;
}

/** Records the attempts with each PIN, and finds the records of a PIN. */
export class PinLedger {
  readonly #refused: LoginRecord;
  readonly #accepted: LoginRecord;
  readonly #path: string;
  readonly #log: Log;
  /** Digests of the recorded PINs, by record id. */
  readonly #digests = new Map<string, string>();

  constructor(stores: LoginStores, log: Log) {
    this.#refused = new LoginRecord(stores.refused, log);
    this.#accepted = new LoginRecord(stores.accepted, log);
    this.#path = stores.refused.path ?? "";
    this.#log = log;
  }

  /** Returns the PIN with what identifies it. @param pin remains the caller's, which zeroes it */
  candidate(source: CandidateSource, pin: Buffer): Candidate {
    return { ...source, pin, digest: digestPin(pin) };
  }

  /** Returns the record that forbids or limits attempts with this PIN, under the current stamp of its source. */
  async find(candidate: Candidate): Promise<PinRecord | undefined> {
    const records = this.#known(candidate.token);
    const record = records.find((one) => this.#isOf(one, candidate));
    if (record !== undefined) await this.#renew(candidate, record, records);
    return record;
  }

  /** Returns whether a refused PIN, or an attempt without a clear answer, is recorded under this stamp. */
  has(token: string, stamp: string): boolean {
    return this.#known(token).some((record) => record.stamp === stamp);
  }

  /** Returns whether this PIN has logged in before and was not refused since. */
  wasAccepted(candidate: Candidate): boolean {
    return readable(() => this.#accepted.of(candidate.token)).some((one) => this.#isOf(one, candidate));
  }

  /**
   * Records the attempt before it is made.
   * @param unlocked why there is no lock, if other processes may be trying the same PIN
   * @throws KmsError STATE_UNUSABLE if it cannot be recorded, unless the PIN has logged in before
   */
  async begin(candidate: Candidate, unlocked: unknown): Promise<Begun> {
    const { token } = candidate;
    this.#forgetOldDigests(token);
    const before = this.#known(token);
    const others = before.filter((one) => !this.#isOf(one, candidate));
    const unanswered = 1 + (before.find((one) => this.#isOf(one, candidate))?.unanswered ?? 0);
    const record = this.#record(candidate, { unanswered, reason: "the plugin ended" });
    const problem = unlocked ?? (await this.#save(token, [record, ...others]));
    if (problem !== undefined) {
      if (!this.wasAccepted(candidate)) throw this.#unrecordable(problem);
      this.#refused.keep(token, [record, ...others]);
      this.#log.warn({ err: problem }, "a login with a PIN that has logged in before is not recorded");
    }
    return { record, before, others };
  }

  /** Records that the PIN has logged in, and removes records of PINs that were refused from the same source. */
  async accept(candidate: Candidate, { others }: Begun): Promise<void> {
    const { token, source, stamp } = candidate;
    const accepted = readable(() => this.#accepted.of(token));
    const found = accepted.find((one) => this.#isOf(one, candidate) && one.stamp === stamp);
    if (found === undefined || !this.#digests.has(found.id)) {
      const elsewhere = accepted.filter((one) => one.source !== source && one.source !== "");
      await this.#accepted.put(token, [this.#record(candidate, { reason: "accepted" }), ...elsewhere]);
    }
    const kept = others.filter((one) => one.source !== source);
    await this.#refused.put(token, kept);
  }

  /** Records that the attempt has failed. @param verdict what the failure says about the PIN */
  async fail(candidate: Candidate, begun: Begun, verdict: PinVerdict, reason: string): Promise<void> {
    const { token, pin } = candidate;
    const { record, before, others } = begun;
    if (verdict === "unspent") {
      await this.#refused.put(token, before);
    } else if (verdict === "unknown") {
      await this.#refused.put(token, [{ ...record, reason }, ...others]);
    } else {
      const refused = this.#record(candidate, { mark: markPin(token, pin), reason });
      if (await this.#refused.put(token, [refused, ...others])) await this.#disown(candidate);
      // Removing a record frees space for the next one.
      else if (await this.#disown(candidate)) await this.#refused.put(token, [refused, ...others]);
    }
  }

  /** Removes a refused PIN from the accepted ones, even if the disk is full. Returns whether it was among them. */
  async #disown(candidate: Candidate): Promise<boolean> {
    const accepted = readable(() => this.#accepted.of(candidate.token));
    const others = accepted.filter((one) => !this.#isOf(one, candidate));
    if (others.length === accepted.length) return false;
    if (!(await this.#accepted.put(candidate.token, others))) this.#accepted.clear();
    return true;
  }

  /** Records that the same PIN is now in a rewritten or different source, under that source's stamp. */
  async #renew(candidate: Candidate, record: PinRecord, records: PinRecords): Promise<void> {
    const { token, source, stamp, digest } = candidate;
    if (record.stamp === stamp) return;
    const renewed = { ...record, id: randomUUID(), source, stamp };
    this.#digests.set(renewed.id, digest);
    await this.#refused.put(token, [
      renewed,
      ...records.filter((one) => one !== record || record.source !== source),
    ]);
  }

  #record(
    { source, stamp, digest }: Candidate,
    what: Pick<PinRecord, "reason" | "unanswered" | "mark">,
  ): PinRecord {
    const record = { id: randomUUID(), source, stamp, at: new Date().toISOString(), ...what };
    this.#digests.set(record.id, digest);
    return record;
  }

  /** Returns whether a record is about this PIN: by its bytes if they are known, otherwise by its source. */
  #isOf(record: PinRecord, { token, stamp, showsChange, pin, digest }: Candidate): boolean {
    const known = this.#digests.get(record.id);
    if (known !== undefined) return known === digest;
    if (record.stamp === stamp && showsChange) {
      this.#digests.set(record.id, digest);
      return true;
    }
    return record.mark === undefined ? record.stamp === stamp : record.mark === markPin(token, pin);
  }

  /** Drops digests of records that no longer exist. */
  #forgetOldDigests(token: string): void {
    try {
      const ids = new Set([...this.#refused.of(token), ...this.#accepted.of(token)].map(({ id }) => id));
      for (const id of this.#digests.keys()) if (!ids.has(id)) this.#digests.delete(id);
    } catch {
      // Digests of records that cannot be read now may be needed later.
    }
  }

  /** Returns no records if they cannot be read; `begin` reports that. */
  #known(token: string): PinRecords {
    return readable(() => this.#refused.of(token));
  }

  /** Stores the records. Returns the error if they cannot be stored or read; undefined on success. */
  async #save(token: string, records: PinRecords): Promise<unknown> {
    try {
      this.#refused.of(token);
      await this.#refused.save(token, records);
      return undefined;
    } catch (error) {
      return error;
    }
  }

  #unrecordable(cause: unknown): KmsError {
    const text = `no PIN is tried while it cannot be recorded: ${askToRepair(this.#path, cause)}`;
    return new KmsError("STATE_UNUSABLE", text, cause);
  }
}

function readable(read: () => PinRecords): PinRecords {
  try {
    return read();
  } catch {
    return [];
  }
}
