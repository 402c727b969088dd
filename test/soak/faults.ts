// The faults that a soak draws from: the rule for the fault module, and the name under which the report counts it.

export interface Fault {
  readonly kind: string;
  readonly lines: readonly string[];
}

const ANY_CALL = [
  "C_EncryptInit",
  "C_Encrypt",
  "C_DecryptInit",
  "C_Decrypt",
  "C_FindObjectsInit",
  "C_GetSessionInfo",
];
/** Return values that real tokens have given or may give; one from each class of the CKR table. */
const CODES = [
  "0x5",
  "0x30",
  "0x32",
  "0x60",
  "0x82",
  "0x90",
  "0x91",
  "0x101",
  "0xB0",
  "0xB3",
  "0xE0",
  "0x150",
  "0x190",
  "0x201",
];

const pick = <T>(from: readonly T[], random: () => number): T => {
  const chosen = from[Math.floor(random() * from.length)];
  if (chosen === undefined) throw new RangeError("nothing to pick from");
  return chosen;
};

/** Draws a fault. @param random numbers from 0 up to 1 */
export function drawFault(random: () => number): Fault {
  const call = pick(ANY_CALL, random);
  const probability = pick(["1", "0.3", "0.05"], random);
  const faults: readonly (() => Fault)[] = [
    () => ({ kind: "hang", lines: [`${call} hang p=${probability}`] }),
    () => ({ kind: "crash", lines: [`${call} ${pick(["abort", "segv"], random)} p=${probability}`] }),
    () => ({ kind: "slow", lines: [`* sleep ${pick(["2", "20", "200"], random)}`] }),
    () => ({ kind: "code", lines: [`${call} rv ${pick(CODES, random)} p=${probability}`] }),
    () => ({ kind: "session-loss", lines: ["session-loss"] }),
    () => ({ kind: "logout", lines: ["logout"] }),
    () => ({ kind: "token-removed", lines: ["token-removed"] }),
    () => ({ kind: "device-error", lines: ["device-error"] }),
    () => ({ kind: "session-limit", lines: ["session-limit 2"] }),
    () => ({
      kind: "crash-at-start",
      // Not C_Login: after two logins without an answer, only an operator may continue.
      lines: [`${pick(["C_Initialize", "C_OpenSession"], random)} abort`],
    }),
  ];
  return pick(faults, random)();
}

/** Returns a seeded generator (mulberry32), so that a soak that failed can be repeated. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
