// Measures KMS v2 plugins through their sockets, in closed loops of callers. Every case measures the plugins in turn,
// so that a disturbance of the machine affects all of them.
import { randomBytes } from "node:crypto";
import { ratioOf, spreadOf, type Spread } from "./statistics.js";
import { runTurn, type Turn, type TurnLength } from "./closed-loop.js";

interface Sealed {
  readonly ciphertext: Uint8Array;
}

/** The calls to a plugin, which its client makes. */
export interface KmsCaller<S extends Sealed = Sealed> {
  status(): Promise<unknown>;
  encrypt(plaintext: Uint8Array, uid: string): Promise<S>;
  decrypt(question: S, uid: string): Promise<Uint8Array>;
}

export interface Endpoint<S extends Sealed = Sealed> {
  readonly name: string;
  readonly client: KmsCaller<S>;
}

/** "Decrypt first" sends every ciphertext once; "Decrypt again" repeats a few that have been decrypted before. */
export const OPERATIONS = ["Status", "Encrypt", "Decrypt first", "Decrypt again"] as const;
export type Operation = (typeof OPERATIONS)[number];

export interface EndpointOptions {
  readonly operations: readonly Operation[];
  readonly concurrency: readonly number[];
  readonly repetitions: number;
  readonly turnMs: number;
  /** Number of ciphertexts, and so of requests, in a turn of "Decrypt first". */
  readonly seeds: number;
  /** Called after each turn. */
  readonly onStep: () => void;
}

export interface Sample extends Turn {
  readonly target: string;
  readonly operation: string;
  readonly concurrency: number;
  readonly repetition: number;
}

export interface EndpointFigure {
  readonly target: string;
  readonly operation: string;
  readonly concurrency: number;
  readonly requests: number;
  readonly p50Ms: Spread;
  readonly p99Ms: Spread;
  readonly perSecond: Spread;
}

/** The ratio of one plugin's figures to another's in the same case and repetition. */
export interface Comparison {
  readonly operation: string;
  readonly concurrency: number;
  readonly target: string;
  readonly versus: string;
  readonly p50Ratio: Spread;
  readonly throughputRatio: Spread;
}

const SEED_BYTES = 32;
const UID = "bench";
/** Number of distinct seeds in "Decrypt again". */
const KNOWN_SEEDS = 16;
/** Requests to each endpoint before the first turn, so that none is measured cold. */
const WARM_REQUESTS = 200;

/** Returns how many times `onStep` is called. */
export function endpointSteps(options: EndpointOptions, endpoints: number): number {
  return options.operations.length * options.concurrency.length * options.repetitions * endpoints;
}

/** Returns one sample per turn. @throws the error of a client: a plugin that fails a request has no figures */
export async function measureEndpoints<S extends Sealed>(
  endpoints: readonly Endpoint<S>[],
  options: EndpointOptions,
): Promise<Sample[]> {
  const known = new Map<Endpoint<S>, readonly S[]>();
  for (const endpoint of endpoints) known.set(endpoint, await warmUp(endpoint));
  const samples: Sample[] = [];
  for (let repetition = 0; repetition < options.repetitions; repetition++) {
    for (const operation of options.operations) {
      for (const concurrency of options.concurrency) {
        for (const endpoint of rotated(endpoints, repetition)) {
          const seeds = known.get(endpoint) ?? [];
          const turn = await runOperation(endpoint, operation, concurrency, seeds, options);
          samples.push({ target: endpoint.name, operation, concurrency, repetition, ...turn });
          options.onStep();
        }
      }
    }
  }
  return samples;
}

/** Returns the list rotated by `by`, so that no plugin is always measured first. */
function rotated<T>(all: readonly T[], by: number): T[] {
  const at = by % all.length;
  return [...all.slice(at), ...all.slice(0, at)];
}

async function warmUp<S extends Sealed>({ client }: Endpoint<S>): Promise<readonly S[]> {
  const seeds = await sealSeeds(client, KNOWN_SEEDS);
  await runTurn((number) => decryptOne(client, seeds, number), 1, {
    leastMs: 0,
    leastRequests: WARM_REQUESTS,
  });
  return seeds;
}

async function runOperation<S extends Sealed>(
  { client }: Endpoint<S>,
  operation: Operation,
  concurrency: number,
  known: readonly S[],
  { turnMs, seeds }: EndpointOptions,
): Promise<Turn> {
  const timed: TurnLength = { leastMs: turnMs, leastRequests: concurrency };
  switch (operation) {
    case "Status":
      return runTurn(() => client.status(), concurrency, timed);
    case "Encrypt": {
      const seed = randomBytes(SEED_BYTES);
      return runTurn(() => client.encrypt(seed, UID), concurrency, timed);
    }
    case "Decrypt again":
      return runTurn((number) => decryptOne(client, known, number), concurrency, timed);
    case "Decrypt first": {
      const fresh = await sealSeeds(client, seeds);
      const once: TurnLength = { leastMs: 0, leastRequests: seeds };
      return runTurn((number) => decryptOne(client, fresh, number), concurrency, once);
    }
  }
}

async function sealSeeds<S extends Sealed>(client: KmsCaller<S>, count: number): Promise<readonly S[]> {
  const sealed: S[] = [];
  for (let one = 0; one < count; one++) sealed.push(await client.encrypt(randomBytes(SEED_BYTES), UID));
  return sealed;
}

async function decryptOne<S extends Sealed>(client: KmsCaller<S>, seeds: readonly S[], number: number) {
  const seed = seeds[number % seeds.length];
  if (seed === undefined) throw new RangeError("nothing to decrypt");
  const plaintext = await client.decrypt(seed, UID);
  if (plaintext.length !== SEED_BYTES) {
    throw new RangeError("the decrypted plaintext has another length than the encrypted one");
  }
}

function caseOf({ operation, concurrency }: Sample): string {
  return `${operation} ${concurrency}`;
}

function groupBy(samples: readonly Sample[], name: (sample: Sample) => string): Map<string, Sample[]> {
  const groups = new Map<string, Sample[]>();
  for (const sample of samples) groups.set(name(sample), [...(groups.get(name(sample)) ?? []), sample]);
  return groups;
}

const rate = ({ requests, seconds }: Sample): number => requests / seconds;

/** Returns one figure per case and target, over all repetitions. */
export function summarise(samples: readonly Sample[]): EndpointFigure[] {
  const groups = groupBy(samples, (sample) => `${caseOf(sample)} ${sample.target}`);
  return [...groups.values()].flatMap((group) => {
    const [first] = group;
    if (first === undefined) return [];
    const { target, operation, concurrency } = first;
    const requests = group.reduce((sum, sample) => sum + sample.requests, 0);
    const p50Ms = spreadOf(group.map((sample) => sample.p50Ms));
    const p99Ms = spreadOf(group.map((sample) => sample.p99Ms));
    return [{ target, operation, concurrency, requests, p50Ms, p99Ms, perSecond: spreadOf(group.map(rate)) }];
  });
}

/** Compares each target with `versus` case by case and repetition by repetition. */
export function compare(samples: readonly Sample[], versus: string): Comparison[] {
  const byTarget = groupBy(samples, (sample) => `${caseOf(sample)} ${sample.target}`);
  return [...byTarget.values()].flatMap((ours) => {
    const [first] = ours;
    if (first === undefined || first.target === versus) return [];
    const theirs = byTarget.get(`${caseOf(first)} ${versus}`) ?? [];
    const { target, operation, concurrency } = first;
    const p50Ratio = ratioOf(
      ours.map((sample) => sample.p50Ms),
      theirs.map((sample) => sample.p50Ms),
    );
    return [
      {
        operation,
        concurrency,
        target,
        versus,
        p50Ratio,
        throughputRatio: ratioOf(ours.map(rate), theirs.map(rate)),
      },
    ];
  });
}
