// An HSM that does not answer one request in time may answer the next: the machine is busy, the network was away for a moment, or a
// token host was replaced. A command that reads thousands of objects does not give up for that.
import { setTimeout as sleep } from "node:timers/promises";
import { KmsError, type ErrorCode } from "../errors.js";

const MAY_PASS: readonly ErrorCode[] = ["DEADLINE", "HSM_UNAVAILABLE", "SESSION_LOST", "OVERLOADED"];
const ATTEMPTS = 3;
const PAUSE_MS = 1_000;

/** Makes a call, and repeats it if the HSM did not answer in time. @throws KmsError of the last attempt */
export async function repeatedIfLate<T>(call: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call();
    } catch (error) {
      const known = KmsError.from(error);
      if (!MAY_PASS.includes(known.code) || attempt === ATTEMPTS) throw known;
      await sleep(PAUSE_MS);
    }
  }
}
