// Which of the PINs that an operator supplies the next login uses, and what is reported to the operator.

import { expect, it } from "vitest";

import { KmsError } from "../../../src/errors.js";
import { OperatorPin, verdictOn, type Offer } from "../../../src/hsm/login/operator-pin.js";
import type { HsmState } from "../../../src/hsm/port.js";

const LIMIT_MS = 20_000;
const REFUSED = new KmsError("PIN_REFUSED", "wrong");
const AWAY = new KmsError("HSM_UNAVAILABLE", "away");
const NONE = new KmsError("PIN_UNREADABLE", "none has been handed over");

const hold = (): OperatorPin =>
  new OperatorPin({ description: "the test", missing: "hand one over", correction: "hand another over" });

/** Uses the PIN as a login does. */
function attempt(held: OperatorPin, failure?: KmsError, isWrong = failure !== undefined): string {
  const stamp = held.stamp();
  const pin = held.read().toString();
  held.settled(stamp, failure, isWrong);
  return pin;
}

it("a PIN replaces the one in use only after it has logged in", () => {
  const held = hold();
  expect(() => held.read()).toThrow("hand one over");
  held.offer(Buffer.from("right"));
  expect(attempt(held)).toBe("right");
  const wrong = held.offer(Buffer.from("wrong"));
  const stampOfWrong = held.stamp();
  expect(attempt(held, REFUSED)).toBe("wrong");
  expect(wrong.outcome()).toEqual({ refusal: REFUSED });
  expect(held.stamp()).not.toBe(stampOfWrong);
  expect(attempt(held)).toBe("right");
  const changed = held.offer(Buffer.from("changed"));
  expect(attempt(held)).toBe("changed");
  expect(changed.outcome()).toEqual({ accepted: true });
  expect(attempt(held)).toBe("changed");
});

it("a PIN without a clear answer is tried again, a withdrawn or replaced one is not", () => {
  const held = hold();
  held.offer(Buffer.from("right"));
  attempt(held);
  const offer = held.offer(Buffer.from("other"));
  expect(attempt(held, AWAY)).toBe("other");
  expect(offer.outcome()).toBeUndefined();
  expect(held.read().toString()).toBe("other");
  held.offer(Buffer.from("third"));
  expect(held.read().toString()).toBe("third");
  // The answer to a replaced PIN is not mistaken for the answer to the next one.
  offer.withdraw();
  expect(held.read().toString()).toBe("third");
});

it("a locked token keeps the only PIN, but not one beside another", () => {
  const held = hold();
  const locked = held.offer(Buffer.from("only"));
  attempt(held, REFUSED, false);
  expect(locked.outcome()).toEqual({ refusal: REFUSED });
  expect(attempt(held)).toBe("only");
  held.offer(Buffer.from("other"));
  attempt(held, REFUSED, false);
  expect(held.read().toString()).toBe("only");
});

it("a PIN is zeroed when it is refused, replaced or forgotten", () => {
  const held = hold();
  const pins = ["refused", "replaced", "used", "new"].map((text) => Buffer.from(text));
  const [refused, replaced, used, last] = pins as [Buffer, Buffer, Buffer, Buffer];
  held.offer(refused);
  attempt(held, REFUSED);
  held.offer(replaced);
  held.offer(used);
  attempt(held);
  held.offer(last);
  attempt(held);
  held.forget();
  for (const pin of pins) expect(pin.every((byte) => byte === 0)).toBe(true);
});

const offerWith = (...outcomes: ReturnType<Offer["outcome"]>[]): Offer => ({
  outcome: () => (outcomes.length > 1 ? outcomes.shift() : outcomes[0]),
  withdraw: () => undefined,
});
const states = (...given: HsmState[]): (() => HsmState) => {
  return () => (given.length > 1 ? given.shift() : given[0]) ?? { up: true };
};
const down = (reason?: KmsError): HsmState => ({ up: false, reason });
const busy = (): boolean => false;

it("the verdict is the answer to this PIN, whatever the hosts' state is meanwhile", async () => {
  const state = states(down(), down(NONE), { up: true });
  const limits = { state, idle: busy, limitMs: LIMIT_MS };
  const wrong = offerWith(undefined, undefined, undefined, { refusal: REFUSED });
  expect(await verdictOn(wrong, limits)).toEqual({ is: "refused", reason: REFUSED });
  expect(await verdictOn(offerWith(undefined, { accepted: true }), limits)).toEqual({ is: "accepted" });
});

it("the verdict says if the token is away or if no login was needed", async () => {
  const state = states(down(NONE), down(NONE), down(AWAY));
  expect(await verdictOn(offerWith(undefined), { state, idle: busy, limitMs: LIMIT_MS })).toEqual({
    is: "waiting",
    reason: AWAY,
  });
  const up = (): HsmState => ({ up: true });
  expect(await verdictOn(offerWith(undefined), { state: up, idle: () => true, limitMs: LIMIT_MS })).toEqual({
    is: "untried",
  });
});
