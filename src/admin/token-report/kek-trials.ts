// The trials with KEKs: they are made as `keys create` makes them, found and used by another process as the plugin does,
// and destroyed. On a token that makes no keys, the KEK of the plugin is used, and not changed.
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { KmsError } from "../../errors.js";
import { MECHANISM_CHOICES, mechanismByName, type MechanismChoice } from "../../hsm/mechanisms.js";
import type { KekRecord } from "../../hsm/port.js";
import { trialKekLabel, type MechanismTrial } from "../../hsm/wire-trials.js";
import type { Observations, Visibility } from "./report.js";
import type { Role, TrialHosts } from "./trial-hosts.js";

/** Making RSA keys may take minutes. */
const GENERATE_MS = 120_000;
/** CKM_RSA_PKCS_KEY_PAIR_GEN. */
const RSA_KEY_PAIRS = "0x0";
const POLLS = 4;
const POLL_MS = 500;

/** The observations so far. */
export type Draft = { -readonly [K in keyof Observations]: Observations[K] };

/** What the trials share. */
export interface Trialling {
  readonly hosts: TrialHosts;
  /** The object name of the report's KEKs. */
  readonly label: string;
  readonly seen: Draft;
  /** Runs one trial unless the report has ended, and records its error. */
  attempt(trial: string, work: () => Promise<void>): Promise<void>;
}

interface TrialKek {
  readonly record: KekRecord;
  readonly choice: MechanismChoice;
}

/** Runs all trials with KEKs. */
export async function tryKeks(trialling: Trialling): Promise<void> {
  await new KekTrials(trialling).run();
}

class KekTrials {
  readonly #trialling: Trialling;
  readonly #keks: TrialKek[] = [];

  constructor(trialling: Trialling) {
    this.#trialling = trialling;
  }

  async run(): Promise<void> {
    for (const choice of MECHANISM_CHOICES) {
      await this.#attempt(`a KEK for ${choice}`, () => this.#make(choice));
    }
    if (this.#keks.length === 0) {
      await this.#attempt("the KEK of the plugin", () => this.#useExisting());
      return;
    }
    await this.#useMade();
    await this.#attempt("a destroyed KEK", () => this.#destroy());
  }

  #attempt(trial: string, work: () => Promise<void>): Promise<void> {
    return this.#trialling.attempt(trial, work);
  }

  /** Makes a KEK. The first one also shows when another process sees a new key. */
  async #make(choice: MechanismChoice): Promise<void> {
    const { hosts, label: name, seen } = this.#trialling;
    const listed = seen.facts?.mechanisms ?? [];
    if (choice === "rsa-oaep" && listed.length > 0 && !listed.includes(RSA_KEY_PAIRS)) {
      this.#notMade(
        choice,
        new KmsError("GENERATION_UNSUPPORTED", "the token does not list CKM_RSA_PKCS_KEY_PAIR_GEN"),
      );
      return;
    }
    const label = trialKekLabel({ label: name }, choice);
    const ckaId = randomBytes(16).toString("hex");
    const maker = await hosts.use("maker");
    try {
      const request = { label, ckaId, kind: "auto", mechanism: choice, trialLabel: name } as const;
      const record = await maker.generate(request, GENERATE_MS);
      this.#keks.push({ record, choice });
      const { kind, unprotected, remarks } = record;
      const idKept = record.ckaId === ckaId;
      const made = { choice, outcome: "ok", kind, idKept, remarks: [...unprotected, ...remarks] };
      seen.keks = [...seen.keks, made];
    } catch (error) {
      if (!maker.alive) throw error;
      this.#notMade(choice, KmsError.from(error));
    }
    if (hosts.isExclusive) return;
    if (this.#keks.length === 1 && seen.visibility.made === undefined) await this.#seeNew(label);
  }

  #notMade(choice: MechanismChoice, { code, message }: KmsError): void {
    const { seen } = this.#trialling;
    seen.keks = [...seen.keks, { choice, outcome: message }];
    this.#add({ choice, mechanism: choice, works: false, detail: message, code });
  }

  #add(trial: MechanismTrial): void {
    const { seen } = this.#trialling;
    seen.mechanisms = [...seen.mechanisms.filter(({ choice }) => choice !== trial.choice), trial];
  }

  /** Finds out when a process that logged in earlier sees a new KEK. */
  async #seeNew(label: string): Promise<void> {
    const { hosts, seen } = this.#trialling;
    const sees = async (): Promise<boolean> =>
      (await (await hosts.use("user")).trial("count", { label })).found > 0;
    let made: Visibility["made"] = (await sees()) ? "at once" : undefined;
    for (let poll = 0; made === undefined && poll < POLLS; poll++) {
      await sleep(POLL_MS);
      if (await sees()) made = "within 2 s";
    }
    if (made === undefined) {
      await hosts.restart("user");
      made = (await sees()) ? "after the library is loaded again" : "never";
    }
    seen.visibility = { made };
  }

  async #useMade(): Promise<void> {
    const { hosts, seen } = this.#trialling;
    if (!hosts.isExclusive && seen.visibility.made !== "at once" && seen.visibility.made !== "within 2 s") {
      // The library does not show the KEKs that were made after the first.
      await this.#attempt("loading the library again", async () => {
        await hosts.restart("user");
      });
    }
    const [first] = this.#keks;
    if (first === undefined) return;
    await this.#attempt("searches", async () => {
      const { label, ckaId } = first.record;
      seen.searches = await (await hosts.use("user")).trial("searches", { label, ckaId });
    });
    const kinds = new Set(["aes+hmac"]);
    for (const { record } of this.#keks) {
      if (!kinds.has(record.kind)) await this.#readAttributes("user", record);
      kinds.add(record.kind);
    }
    for (const { record, choice } of this.#keks) await this.#perform("user", record, choice);
    await this.#measure("user", this.#working?.record);
  }

  /** The KEK whose mechanism works. */
  get #working(): TrialKek | undefined {
    const { mechanisms } = this.#trialling.seen;
    return this.#keks.find((kek) => mechanisms.some(({ choice, works }) => works && choice === kek.choice));
  }

  async #readAttributes(role: Role, { keyId, kind }: KekRecord): Promise<void> {
    const { hosts, seen } = this.#trialling;
    await this.#attempt(`attributes of a KEK of kind ${kind}`, async () => {
      const read = await (await hosts.use(role)).trial("attributes", { keyId });
      seen.attributes = [...seen.attributes, ...read];
    });
  }

  async #perform(role: Role, { keyId }: KekRecord, choice: MechanismChoice): Promise<void> {
    const { hosts } = this.#trialling;
    await this.#attempt(`mechanism ${choice}`, async () => {
      this.#add(await (await hosts.use(role)).trial("mechanism", { keyId, choice }));
    });
  }

  async #measure(role: Role, record: KekRecord | undefined): Promise<void> {
    const { hosts, seen } = this.#trialling;
    const mechanism = seen.mechanisms.find(
      (one) =>
        one.works && record !== undefined && mechanismByName(one.mechanism).kinds.includes(record.kind),
    )?.mechanism;
    if (record === undefined || mechanism === undefined) return;
    const { keyId, label } = record;
    await this.#attempt("latencies", async () => {
      seen.latencies = await (await hosts.use(role)).trial("latencies", { label, keyId, mechanism });
    });
  }

  async #useExisting(): Promise<void> {
    const { hosts, seen } = this.#trialling;
    const keks = await (await hosts.use("kek")).listKeks();
    const record = keks.find(({ unprotected }) => unprotected.length === 0);
    if (record === undefined) return;
    seen.usedExistingKek = true;
    await this.#readAttributes("kek", record);
    for (const choice of MECHANISM_CHOICES) {
      if (mechanismByName(choice).kinds.includes(record.kind)) await this.#perform("kek", record, choice);
    }
    await this.#measure("kek", record);
  }

  /** Removes the KEKs, and finds out whether a process that has used one notices. */
  async #destroy(): Promise<void> {
    const { hosts, label: name, seen } = this.#trialling;
    const working = this.#working;
    const mechanism = seen.mechanisms.find(({ choice }) => choice === working?.choice)?.mechanism;
    if (working === undefined || mechanism === undefined || hosts.isExclusive) return;
    const { label, keyId } = working.record;
    const user = await hosts.use("user");
    const { left } = await (await hosts.use("maker")).trial("remove", { label: name });
    const { outcome } = await user.trial("handle", { keyId, mechanism });
    if (outcome === undefined || left.length > 0) return;
    const { found } = await user.trial("count", { label });
    const destroyed = found === 0 ? "at once" : "after the library is loaded again";
    seen.visibility = { ...seen.visibility, destroyed, destroyedKey: outcome };
  }
}
