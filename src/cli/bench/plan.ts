// What `kms-pkcs11 bench` measures: its options, checked and converted to numbers.
import { CORE_BYTES } from "../../bench/core.js";
import type { BenchSettings } from "../../bench/result.js";
import { KmsError } from "../../errors.js";
import type { SettingsOptions } from "../settings-options.js";

export interface BenchOptions extends SettingsOptions {
  readonly versus?: string;
  readonly concurrency: string;
  readonly sessions: string;
  readonly repetitions: string;
  readonly turn: string;
  readonly bytes?: string;
}

/** The limit of the setting hsm.sessions. */
const MAX_SESSIONS = 64;
const MAX_CONCURRENCY = 512;
const MAX_BYTES = 1 << 20;
const MAX_REPETITIONS = 1_000;
const MAX_TURN_MS = 600_000;
/** Gives 150 seeds for the default turn, which is below the default size of the cache. */
const SEEDS_PER_MS = 0.5;

/** Returns the checked options. @throws KmsError CONFIG_INVALID */
export function benchSettings(options: BenchOptions): BenchSettings {
  const { socket, versus, concurrency, sessions, repetitions, turn, bytes } = options;
  if (versus !== undefined && socket === undefined) {
    throw new KmsError("CONFIG_INVALID", "--versus: also give --socket, the plugin to compare");
  }
  const turnMs = numberOf("--turn", turn, MAX_TURN_MS);
  const callers = listOf("--concurrency", concurrency, MAX_CONCURRENCY);
  return {
    concurrency: callers,
    sessions: listOf("--sessions", sessions, MAX_SESSIONS),
    repetitions: numberOf("--repetitions", repetitions, MAX_REPETITIONS),
    turnMs,
    bytes: bytes === undefined ? CORE_BYTES : listOf("--bytes", bytes, MAX_BYTES),
    seeds: Math.max(...callers, Math.round(turnMs * SEEDS_PER_MS)),
  };
}

function numberOf(name: string, text: string, max: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= max) return value;
  throw new KmsError("CONFIG_INVALID", `${name}: "${text}" is not a whole number; give one from 1 to ${max}`);
}

function listOf(name: string, text: string, max: number): number[] {
  return [...new Set(text.split(",").map((one) => numberOf(name, one.trim(), max)))];
}
