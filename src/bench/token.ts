// Measures the token through a token host, as the plugin uses it: every mechanism that key and token perform, and how
// much several sessions overlap.
import { randomBytes } from "node:crypto";
import { MECHANISM_CHOICES, mechanismByName, type MechanismName } from "../hsm/mechanisms.js";
import { PATIENT_CALLER, type Hsm } from "../hsm/port.js";
import { spreadOf, type Spread } from "./statistics.js";
import { runTurn } from "./closed-loop.js";

/** The HSM layer with the number of sessions that are open now. */
export interface MeasurableHsm extends Hsm {
  readonly sessions: number;
}

export interface TokenOptions {
  readonly keyId: string;
  readonly mechanisms: readonly MechanismName[];
  /** Number of concurrent requests. */
  readonly concurrency: number;
  readonly repetitions: number;
  readonly turnMs: number;
  /** Called after each turn. */
  readonly onStep: () => void;
}

export interface TokenFigure {
  readonly mechanism: MechanismName;
  readonly operation: "encrypt" | "decrypt";
  readonly concurrency: number;
  /** Sessions that were open at the end: a fast token gets no more than it needs. */
  readonly sessions: number;
  readonly requests: number;
  readonly p50Ms: Spread;
  readonly p99Ms: Spread;
  readonly perSecond: Spread;
}

const SEED_BYTES = 32;
const AAD_BYTES = 66;
export const TOKEN_OPERATIONS = ["encrypt", "decrypt"] as const;

/** Returns the mechanisms that work with this key, determined by the plugin's own test. */
export async function workingMechanisms(hsm: Hsm, keyId: string): Promise<MechanismName[]> {
  const working: MechanismName[] = [];
  for (const choice of MECHANISM_CHOICES) {
    const tried = await hsm.probe(keyId, choice);
    working.push(...tried.filter(({ works }) => works).map(({ mechanism }) => mechanism));
  }
  return working;
}

/** Returns one figure per mechanism and operation. @throws KmsError if the token fails a request */
export async function measureToken(hsm: MeasurableHsm, options: TokenOptions): Promise<TokenFigure[]> {
  const figures: TokenFigure[] = [];
  for (const mechanism of options.mechanisms) {
    for (const operation of TOKEN_OPERATIONS) {
      figures.push(await measureOne(hsm, mechanism, operation, options));
    }
  }
  return figures;
}

async function measureOne(
  hsm: MeasurableHsm,
  mechanism: MechanismName,
  operation: TokenFigure["operation"],
  { keyId, concurrency, repetitions, turnMs, onStep }: TokenOptions,
): Promise<TokenFigure> {
  const request = { keyId, mechanism: mechanismByName(mechanism).id, aad: randomBytes(AAD_BYTES) };
  const seed = randomBytes(SEED_BYTES);
  const body = await hsm.encrypt({ ...request, data: seed }, PATIENT_CALLER);
  const ask = (): Promise<Buffer> =>
    operation === "encrypt"
      ? hsm.encrypt({ ...request, data: seed }, PATIENT_CALLER)
      : hsm.decrypt({ ...request, data: body }, PATIENT_CALLER);
  const turns = [];
  for (let repetition = 0; repetition < repetitions; repetition++) {
    turns.push(await runTurn(ask, concurrency, { leastMs: turnMs, leastRequests: concurrency }));
    onStep();
  }
  return {
    mechanism,
    operation,
    concurrency,
    sessions: hsm.sessions,
    requests: turns.reduce((sum, turn) => sum + turn.requests, 0),
    p50Ms: spreadOf(turns.map((turn) => turn.p50Ms)),
    p99Ms: spreadOf(turns.map((turn) => turn.p99Ms)),
    perSecond: spreadOf(turns.map((turn) => turn.requests / turn.seconds)),
  };
}
