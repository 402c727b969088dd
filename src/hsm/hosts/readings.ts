// Reads the keyring on the hosts of one token. A reading that hangs makes its host unusable. So hosts are read one
// after the other, and once a reading has hung, the last host that serves requests is not read. A slow or failed
// reading is a finding; it does not replace a host whose operations under the KEK succeed.
import { KmsError } from "../../errors.js";
import type { Log } from "../../log.js";
import { findAll } from "./find-keks.js";
import { progressLog } from "./progress-log.js";
import { readInSlices, SlicePace } from "./slices.js";
import type { DatedKeks } from "./first-reading.js";
import { HostReload } from "./host-reload.js";
import { LastReading } from "./last-reading.js";
import { ReadingAtStart } from "./reading-at-start.js";
import type { AcceptsHost, ReadingHosts } from "./reading-hosts.js";
import type { RunStep } from "./starts.js";
import { HostFailure } from "./host-failure.js";
import type { HostProcess } from "./host-process.js";
import type { KekRecord } from "../port.js";
import type { ReadRequest, ReadSlice } from "../wire-calls.js";

/** The time limits of readings. */
export interface ReadingOptions {
  /** Minimum limit for a slice of a reading, in ms. */
  readonly controlTimeoutMs: number;
  /** Maximum limit for a slice of a reading, in ms. */
  readonly startTimeoutMs: number;
  readonly log: Log;
}

/** Makes and limits readings of the keyring on the hosts of one token. */
export class KeyringReadings {
  readonly #hosts: ReadingHosts;
  readonly #pace: SlicePace;
  readonly #log: Log;
  /** Whether a reading has hung and none has succeeded since. */
  #hung = false;
  /** The last reading requested on each host. */
  readonly #turns = new WeakMap<HostProcess, Promise<unknown>>();
  readonly #last: LastReading;
  readonly #reload: HostReload;
  readonly #atStart: ReadingAtStart;

  constructor(hosts: ReadingHosts, { controlTimeoutMs, startTimeoutMs, log }: ReadingOptions) {
    this.#hosts = hosts;
    this.#log = log;
    this.#pace = new SlicePace(controlTimeoutMs, startTimeoutMs);
    this.#last = new LastReading(log);
    this.#atStart = new ReadingAtStart({ pace: this.#pace, last: this.#last, startTimeoutMs, log });
    this.#reload = new HostReload(hosts, () => {
      if (this.#isLast()) throw this.#refusal();
    });
  }

  /** What is wrong with the last reading; undefined if nothing is. */
  get finding(): string | undefined {
    return this.#last.finding;
  }

  /** The end of a message: the progress of a starting host's reading; empty if a host is ready. */
  get soFar(): string {
    return this.#hosts.ready.length > 0 ? "" : this.#atStart.soFar;
  }

  /** Makes sure that a starting host finds the KEKs, and returns them. @throws KmsError */
  async readFirst(host: HostProcess, step: RunStep): Promise<readonly KekRecord[]> {
    return this.#atStart.read(host, step);
  }

  /** Makes later calls ignore the reading of a starting host, since the names of the KEKs are replaced. */
  forgetFirst(): void {
    this.#atStart.forget();
  }

  /**
   * Reads on one host and returns the KEKs, then reads the other hosts in the background.
   * @param maxAgeMs how long before this call a host may have begun that reading when it started
   * @throws KmsError
   */
  async read(maxAgeMs = 0): Promise<DatedKeks> {
    const since = performance.now() - maxAgeMs;
    const host = await this.#spare();
    const beganAt = performance.now();
    const dated = this.#readAtStart(host, since) ?? { keks: await this.#readOn(host), beganAt };
    void this.#refreshOthers(host, dated.keks);
    return dated;
  }

  #readAtStart(host: HostProcess, since: number): DatedKeks | undefined {
    const made = this.#atStart.madeOn(host, since);
    if (made === undefined) return undefined;
    this.#last.replace(made.reading, made.tookMs);
    return { keks: made.reading.keks, beganAt: made.beganAt };
  }

  /**
   * Reads on a host that loads the library after this call and replaces a warm one. Replaces earlier hosts that show
   * different keys.
   * @throws KmsError
   */
  async readReloaded(): Promise<readonly KekRecord[]> {
    let { records, isReloaded } = await this.#readOnReloaded();
    if (records.length === 0 && this.#last.hasShownKeks) {
      // The token may have gone away after the library was loaded: another library then does not find it at all.
      ({ records, isReloaded } = await this.#readOnReloaded());
      if (records.length === 0) this.#last.confirmEmpty();
    }
    await this.#replaceOthers(records, isReloaded);
    return records;
  }

  async #readOnReloaded(): Promise<{ records: readonly KekRecord[]; isReloaded: AcceptsHost }> {
    const { host, isReloaded } = await this.#reload.reload();
    const records = await this.#readOn(host, isReloaded);
    this.#reload.finish();
    return { records, isReloaded };
  }

  /** Replaces the hosts that do not show these keys, except reloaded ones. */
  async #replaceOthers(records: readonly KekRecord[], isReloaded: AcceptsHost): Promise<void> {
    for (const host of this.#hosts.ready) {
      if (isReloaded(host)) continue;
      const earlier = await this.#readOn(host).catch(() => undefined);
      if (earlier === undefined) host.kill("device");
      else if (namesOf(earlier) !== namesOf(records)) host.kill("reload");
    }
  }

  /**
   * Has the other hosts find the same KEKs, which keeps their sessions alive. Those that do not find all of them by
   * their CKA_IDs are read. If they show different keys from the first, one of the two is replaced.
   */
  async #refreshOthers(first: HostProcess, shown: readonly KekRecord[]): Promise<void> {
    for (const host of this.#hosts.ready) {
      if (host === first || this.#isLast()) continue;
      if (await this.#findsAll(host, shown)) continue;
      const records = await this.#readOn(host).catch(() => undefined);
      if (records === undefined || !host.alive || namesOf(records) === namesOf(shown)) continue;
      if (host.openedAt < first.openedAt) host.kill("reload");
      else await this.#replaceUnlessSame(first, records);
    }
  }

  /**
   * Replaces a host if it still shows different keys from one whose library was loaded later: a library may show its
   * token forever as it was when it was loaded, or as empty once the token was away.
   */
  async #replaceUnlessSame(earlier: HostProcess, later: readonly KekRecord[]): Promise<void> {
    const records = await this.#readOn(earlier).catch(() => undefined);
    if (records !== undefined && earlier.alive && namesOf(records) !== namesOf(later)) earlier.kill("reload");
  }

  async #findsAll(host: HostProcess, shown: readonly KekRecord[]): Promise<boolean> {
    if (shown.length === 0 || !host.alive) return false;
    const ask = (request: ReadRequest): Promise<ReadSlice> =>
      this.#hosts.read(host, request, this.#pace.limitMs);
    const found = await findAll(host, shown, ask).catch(() => false);
    if (host.endCause === "hang") this.#hung = true;
    return found;
  }

  /** @param accepts which other host may be read if the reading makes this one unusable */
  async #readOn(host: HostProcess, accepts: AcceptsHost = () => true): Promise<readonly KekRecord[]> {
    try {
      return await this.#inTurn(host);
    } catch (error) {
      if (host.endCause === "hang") this.#hung = true;
      else if (host.alive) await this.#judge(host, error);
      if (host.alive || host.endCause === "stop") throw error;
      // The reading made its host unusable; repeat it on another one.
      const other = await this.#hosts.whenReady((one) => !this.#isLast() && accepts(one));
      if (other !== undefined) return this.#inTurn(other);
      throw this.#hung ? error : this.#refusal();
    }
  }

  /** Replaces a host whose reading failed, unless operations under a KEK succeed on it. */
  async #judge(host: HostProcess, error: unknown): Promise<void> {
    if (!(error instanceof HostFailure)) return;
    const { fault } = error.failure;
    if (fault !== "device" && fault !== "session") return;
    const [kek] = this.#last.keks;
    if (kek === undefined) host.kill("device");
    else await this.#hosts.proves(host, kek.keyId);
  }

  /** Makes one reading at a time on a host; each begins after it was requested. */
  async #inTurn(host: HostProcess): Promise<readonly KekRecord[]> {
    const before = this.#turns.get(host) ?? Promise.resolve();
    const reading = before.catch(() => undefined).then(() => this.#readWhole(host));
    this.#turns.set(host, reading);
    return reading;
  }

  async #readWhole(host: HostProcess): Promise<readonly KekRecord[]> {
    const beganAt = performance.now();
    const ask = (request: ReadRequest, limitMs: number): Promise<ReadSlice> =>
      this.#hosts.read(host, request, limitMs);
    const reading = await readInSlices(host, this.#pace, this.#pace.limitMs, ask, progressLog(this.#log));
    this.#hung = false;
    this.#last.replace(reading, performance.now() - beganAt);
    return reading.keks;
  }

  async #spare(): Promise<HostProcess> {
    const serving = await this.#hosts.serving();
    if (this.#isLast()) throw this.#refusal();
    return serving;
  }

  /** Returns whether requests would be left without a host if a reading hung now. */
  #isLast(): boolean {
    return this.#hung && this.#hosts.configured > 1 && this.#hosts.ready.length <= 1;
  }

  #refusal(): KmsError {
    return new KmsError(
      "HSM_UNAVAILABLE",
      "the token cannot be read: a reading has hung, and the last token host is kept for requests",
    );
  }
}

function namesOf(records: readonly KekRecord[]): string {
  return records
    .map(({ keyId }) => keyId)
    .sort()
    .join(" ");
}
