// Measures the AES-256-GCM core (the functions that seal under a local KEK), WebCrypto, and `openssl speed`, which
// encrypts one long stream under one key and therefore shows the machine's limit.
import { execFile } from "node:child_process";
import { createSecretKey, randomBytes, webcrypto } from "node:crypto";
import { promisify } from "node:util";
import { openSealed, sealUnder } from "../aead.js";
import { spreadOf, type Spread } from "./statistics.js";

export const CORE_BYTES = [16, 32, 256, 1024, 4096, 16_384, 65_536] as const;
export const CORE_IMPLEMENTATIONS = ["core", "WebCrypto", "openssl speed"] as const;

export interface CoreFigure {
  readonly implementation: (typeof CORE_IMPLEMENTATIONS)[number];
  readonly operation: "seal" | "open";
  readonly bytes: number;
  readonly nsPerOperation: Spread;
  readonly mbPerSecond: number;
}

export interface CoreOptions {
  /** Time in ms for all repetitions of one measurement together. */
  readonly leastMs: number;
  readonly repetitions: number;
  readonly bytes: readonly number[];
  /** Called after each measurement. */
  readonly onStep: () => void;
}

type Work = () => unknown;

const IV_BYTES = 12;
/** Operations between two looks at the clock, which takes as long as a small operation. */
const BATCH = 16;
const NS_PER_MS = 1e6;

/** Returns the figures; without those of openssl if there is no openssl command. */
export async function measureCore(options: CoreOptions): Promise<CoreFigure[]> {
  const figures: CoreFigure[] = [];
  for (const bytes of options.bytes) {
    const works = { core: coreWorks(bytes), WebCrypto: await webCryptoWorks(bytes) };
    for (const operation of ["seal", "open"] as const) {
      for (const implementation of ["core", "WebCrypto"] as const) {
        const ns = await nsPerOperation(works[implementation][operation], options);
        figures.push(figureOf(implementation, operation, bytes, ns));
        options.onStep();
      }
    }
    const limit = await opensslSpeed(bytes, options.leastMs);
    if (limit !== undefined) figures.push(figureOf("openssl speed", "seal", bytes, [limit]));
    options.onStep();
  }
  return figures;
}

/** Returns how many times `onStep` is called. */
export function coreSteps(bytes: readonly number[]): number {
  return 5 * bytes.length;
}

function figureOf(
  implementation: CoreFigure["implementation"],
  operation: CoreFigure["operation"],
  bytes: number,
  ns: readonly number[],
): CoreFigure {
  const nsPer = spreadOf(ns);
  return {
    implementation,
    operation,
    bytes,
    nsPerOperation: nsPer,
    mbPerSecond: (bytes * 1000) / nsPer.median,
  };
}

function coreWorks(bytes: number): Record<CoreFigure["operation"], Work> {
  const key = createSecretKey(randomBytes(32));
  const aad = randomBytes(66);
  const plaintext = randomBytes(bytes);
  const sealed = sealUnder(key, aad, plaintext);
  return { seal: () => sealUnder(key, aad, plaintext), open: () => openSealed(key, aad, sealed) };
}

async function webCryptoWorks(bytes: number): Promise<Record<CoreFigure["operation"], Work>> {
  const { subtle } = webcrypto;
  const key = await subtle.importKey("raw", randomBytes(32), "AES-GCM", false, ["encrypt", "decrypt"]);
  const algorithm = { name: "AES-GCM", iv: randomBytes(IV_BYTES), additionalData: randomBytes(66) };
  const plaintext = randomBytes(bytes);
  const sealed = await subtle.encrypt(algorithm, key, plaintext);
  return {
    seal: () => subtle.encrypt({ ...algorithm, iv: randomBytes(IV_BYTES) }, key, plaintext),
    open: () => subtle.decrypt(algorithm, key, sealed),
  };
}

async function nsPerOperation(work: Work, { leastMs, repetitions }: CoreOptions): Promise<number[]> {
  const took: number[] = [];
  for (let repetition = 0; repetition < repetitions; repetition++) {
    const startedAt = performance.now();
    const endsAt = startedAt + leastMs / repetitions;
    let done = 0;
    do {
      for (let one = 0; one < BATCH; one++) {
        const result = work();
        if (result instanceof Promise) await result;
      }
      done += BATCH;
    } while (performance.now() < endsAt);
    took.push(((performance.now() - startedAt) * NS_PER_MS) / done);
  }
  return took;
}

/**
 * Returns ns per block of this length. The output of -mr has a line such as +F:25:AES-256-GCM:1234567.00 (bytes per
 * second).
 */
async function opensslSpeed(bytes: number, leastMs: number): Promise<number | undefined> {
  const seconds = String(Math.max(1, Math.round(leastMs / 1000)));
  const args = ["speed", "-mr", "-seconds", seconds, "-bytes", String(bytes), "-evp", "aes-256-gcm"];
  try {
    const { stdout } = await promisify(execFile)("openssl", args);
    const rate = /^\+F:\d+:[^:]+:([\d.]+)/m.exec(stdout)?.[1];
    return rate === undefined ? undefined : (bytes * 1e9) / Number(rate);
  } catch {
    return undefined;
  }
}
