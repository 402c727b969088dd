// Compares the clocks of all nodes and of this machine. Each node switches to a KEK by its own clock, and ages and
// waiting times are only as good as the clocks that measure them.

/** A node's clock, compared with this machine's. */
export interface Clock {
  /** The node's address. */
  readonly name: string;
  /** How far it is ahead of this machine's, in ms; negative when it is behind. */
  readonly aheadMs: number;
  /** Largest error of that, in ms: half of the response time. */
  readonly errorMs: number;
}

/** Clocks that differ by more than this, in ms, are wrong. */
export const CLOCK_LIMIT_MS = 3_000;

const THIS_MACHINE: Clock = { name: "this machine", aheadMs: 0, errorMs: 0 };

/** Returns a line for each clock that is wrong, including this machine's, with the difference. */
export function clockDifferences(nodes: readonly Clock[]): string[] {
  const clocks = [THIS_MACHINE, ...nodes];
  const sorted = [...clocks].sort((one, other) => one.aheadMs - other.aheadMs);
  // Most clocks are right; with only two clocks it is unknown which one is.
  const reference =
    clocks.length === 2 ? THIS_MACHINE : (sorted[Math.floor((clocks.length - 1) / 2)] ?? THIS_MACHINE);
  const others = reference === THIS_MACHINE ? "this machine's" : `that of ${reference.name}`;
  return clocks.flatMap(({ name, aheadMs, errorMs }) => {
    const offMs = aheadMs - reference.aheadMs;
    if (Math.abs(offMs) <= CLOCK_LIMIT_MS + errorMs + reference.errorMs) return [];
    const text = `${(Math.abs(offMs) / 1000).toFixed(1)} s ${offMs > 0 ? "ahead of" : "behind"} ${others}`;
    return [`${name}: its clock is ${text}; correct the clock that is wrong`];
  });
}

/** Returns how far the slowest clock of all is behind this machine's, in ms; 0 if this machine's is the slowest. */
export function slowestBehindMs(nodes: readonly Clock[]): number {
  return Math.max(0, ...nodes.map(({ aheadMs }) => -aheadMs));
}
