// Runs the trials of a token report in order. A trial that fails is recorded, and the next one follows. The report's
// objects are removed at the end, after an error or an interrupt too.
import { KmsError } from "../../errors.js";
import type { TrialHost } from "../../hsm/trial-host.js";
import type { Removal } from "../../hsm/wire-trials.js";
import type { Progress } from "../operator.js";
import { tryKeks, type Draft, type Trialling } from "./kek-trials.js";
import type { Observations } from "./report.js";
import type { TrialHosts } from "./trial-hosts.js";

/** Time after which no further trial begins, in ms. */
const ENOUGH_MS = 5 * 60_000;
/** How long the trial in progress may continue after an interrupt, in ms. */
const GRACE_MS = 3_000;

/** Errors of the login or the settings: they end the report. */
const FATAL: readonly string[] = [
  "PIN_REFUSED",
  "PIN_UNREADABLE",
  "STATE_UNUSABLE",
  "MODULE_UNUSABLE",
  "TOKEN_NOT_FOUND",
  "CANCELLED",
];

/** What the trials need. */
export interface ExerciseOptions {
  readonly hosts: TrialHosts;
  /** With which the CKA_LABEL of each of the report's objects begins. */
  readonly label: string;
  readonly progress: Progress;
  /** Ends the trials early; the objects are still removed. */
  readonly signal: AbortSignal;
}

/**
 * Runs all trials and removes their objects.
 * @throws KmsError when the token cannot be opened or logged in; CANCELLED if interrupted
 */
export async function exercise(options: ExerciseOptions): Promise<Observations> {
  return new Exercise(options).run();
}

class Exercise implements Trialling {
  readonly hosts: TrialHosts;
  readonly label: string;
  readonly seen: Draft;
  readonly #progress: Progress;
  readonly #signal: AbortSignal;
  readonly #begunAt = performance.now();
  #mayHaveMade = false;
  #done = 0;

  constructor({ hosts, label, progress, signal }: ExerciseOptions) {
    this.hosts = hosts;
    this.label = label;
    this.#progress = progress;
    this.#signal = signal;
    this.seen = {
      login: { required: false, administrator: hosts.hasAdministrator },
      rights: [],
      keks: [],
      usedExistingKek: false,
      visibility: {},
      searches: [],
      attributes: [],
      mechanisms: [],
      latencies: [],
      failures: [],
      leftBehind: [],
    };
  }

  async run(): Promise<Observations> {
    let failure: unknown;
    try {
      await this.#untilInterrupted(() => this.#trials());
    } catch (error) {
      failure = error;
    }
    await this.#removeAll();
    if (this.#signal.aborted) failure = new KmsError("CANCELLED", "interrupted");
    if (failure !== undefined) throw this.#withRemainder(KmsError.from(failure));
    return this.seen;
  }

  /** Ends hosts that do not answer soon after an interrupt. */
  async #untilInterrupted(work: () => Promise<void>): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const onAbort = (): void => {
      timer = setTimeout(() => {
        this.hosts.kill();
      }, GRACE_MS);
    };
    this.#signal.addEventListener("abort", onAbort);
    try {
      await work();
    } finally {
      this.#signal.removeEventListener("abort", onAbort);
      clearTimeout(timer);
    }
  }

  async #trials(): Promise<void> {
    await this.#logIn();
    this.#mayHaveMade = true;
    await this.attempt("templates", async () => {
      this.seen.templates = await (await this.hosts.use("maker")).trial("templates", { label: this.label });
    });
    await tryKeks(this);
    await this.attempt("sessions", async () => {
      const user = await this.hosts.use("user");
      this.seen.sessions = await user.trial("sessions", { own: user.sessions });
    });
  }

  /** These steps must succeed: without a login there is nothing to try. */
  async #logIn(): Promise<void> {
    const opened = await this.hosts.start("user");
    this.seen.facts = await opened.trial("describe", {});
    await this.hosts.login("user", opened);
    const maker = await this.hosts.start("maker");
    const { loginRequired, loggedIn } = maker.token;
    const { isExclusive } = this.hosts;
    if (isExclusive) this.seen.exclusive = true;
    this.seen.login = { ...this.seen.login, required: loginRequired };
    const { isLoggedIn } = await this.hosts.login("maker", maker);
    // A token may ask for no login, and still show private keys only after one.
    if (!loginRequired && !isLoggedIn) return;
    await this.attempt("login of another load of the library", async () => {
      const otherLoad = await (await this.hosts.use("user")).laneIsLoggedIn();
      this.seen.login = { ...this.seen.login, ...(!isExclusive && { otherProcess: loggedIn }), otherLoad };
    });
    await this.attempt("rights", async () => {
      this.seen.rights = await (await this.hosts.use("user")).testRights();
    });
  }

  async attempt(trial: string, work: () => Promise<void>): Promise<void> {
    if (this.#signal.aborted) return;
    this.#progress.update(++this.#done);
    if (performance.now() - this.#begunAt > ENOUGH_MS) {
      this.#fail(trial, "not tried: the report took too long");
      return;
    }
    try {
      await work();
    } catch (error) {
      const { code, message } = KmsError.from(error);
      if (FATAL.includes(code)) throw error;
      this.#fail(trial, message);
    }
  }

  #fail(trial: string, reason: string): void {
    this.seen.failures = [...this.seen.failures, { trial, reason }];
  }

  /** Removes the report's objects with the login that made them, then searches for them with a freshly loaded library. */
  async #removeAll(): Promise<void> {
    if (!this.#mayHaveMade) return;
    const remove = async (maker: Promise<TrialHost>): Promise<Removal> =>
      (await maker).trial("remove", { label: this.label });
    const first = await remove(this.hosts.use("maker")).catch(() => undefined);
    try {
      this.seen.leftBehind = (await remove(this.hosts.restart("maker"))).left;
    } catch (error) {
      const unknown = `unknown: ${KmsError.from(error).message}; objects whose CKA_LABEL begins with "${this.label}"`;
      this.seen.leftBehind = first?.left ?? [unknown];
    }
  }

  #withRemainder(failure: KmsError): KmsError {
    const { leftBehind } = this.seen;
    const objects =
      leftBehind.length > 0
        ? `; trial objects are left on the token: ${leftBehind.join("; ")}`
        : this.#mayHaveMade
          ? "; all trial objects were removed"
          : "";
    return new KmsError(failure.code, failure.message + objects, failure);
  }
}
