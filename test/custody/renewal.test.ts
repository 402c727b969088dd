// A renewal on real files with a model of a token: killed wherever it waits, and repeated. `scripts/soak` kills the real
// command at every change of a file.

import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { beforeEach, describe, expect, it } from "vitest";

import { Gathering } from "../../src/custody/gathering.js";
import { pinLength, randomPin } from "../../src/custody/random-pin.js";
import { renewPin, type Renewal } from "../../src/custody/renewal.js";
import { prepareSealedPin, publishPrepared, readSealedPin } from "../../src/custody/sealed-pin-file.js";
import type { SealedPin } from "../../src/custody/sealed-pin.js";
import type { Share } from "../../src/custody/share.js";
import { splitPin } from "../../src/custody/split.js";
import { KmsError } from "../../src/errors.js";
import { makeFolder } from "../support/token.js";

/** Where a renewal waits for something outside, in order. */
const STEPS = ["gather", "try", "handOut", "begin", "before C_SetPIN", "after C_SetPIN"] as const;
type Step = (typeof STEPS)[number];

let path: string;
/** The PIN that the token has. */
let inForce: string;
/** Every try of a PIN that the token refused. */
let wrong: number;
/** All shares that custodians hold, the present ones first. */
let pages: Share[];

const copyOf = (share: Share): Share => ({ ...share, point: Uint8Array.from(share.point) });

beforeEach(async () => {
  path = join(makeFolder("renewal"), "pin.sealed");
  [inForce, wrong] = ["first", 0];
  const plan = { token: "token=kms", role: 1, threshold: 2, shares: 3 };
  const { sealed, shares } = await splitPin(Buffer.from(inForce), plan);
  pages = shares.map(copyOf);
  prepareSealedPin(path, sealed);
  publishPrepared(path);
});

interface Circumstances {
  /** Where the process is killed. */
  readonly killedAt?: Step;
  readonly change?: Renewal["token"]["change"];
  /** Shares that are entered; all pages if omitted. */
  readonly entered?: (all: readonly Share[]) => readonly Share[];
}

let pin = 0;
const notes: string[] = [];

/** Returns the renewed sealed PIN; undefined if the process was killed. */
async function renew({ killedAt, change, entered = (all) => all }: Circumstances = {}): Promise<
  SealedPin | undefined
> {
  let kill = (): void => undefined;
  const killed = new Promise<undefined>(
    (resolve) =>
      (kill = () => {
        resolve(undefined);
      }),
  );
  /** A killed process does nothing more: no handler of this promise ever runs. */
  const passes = async (step: Step): Promise<void> => {
    if (step !== killedAt) return;
    kill();
    await new Promise(() => undefined);
  };
  const offered = entered(pages).map(copyOf);
  return Promise.race([
    killed,
    renewPin({
      path,
      plan: { threshold: 2, shares: 3 },
      gather: async (among) => {
        await passes("gather");
        for (let share = offered.shift(); share !== undefined; share = offered.shift()) {
          const { epoch } = share;
          const target = among.find(({ sealed }) => sealed.epoch === epoch) ?? among[0];
          target?.add(share);
          const complete = among.find(({ missing }) => missing === 0);
          if (complete !== undefined) return complete;
        }
        throw new KmsError("INPUT_INVALID", "not enough");
      },
      choosePin: () => Buffer.from(`random ${++pin}`),
      handOut: async ({ shares }) => {
        pages.push(...shares.map(copyOf));
        await passes("handOut");
      },
      begin: () => passes("begin"),
      notify: (line) => notes.push(line),
      token: {
        refusalOf: async (one) => {
          const text = one.toString();
          await passes("try");
          if (text === inForce) return undefined;
          wrong++;
          return new KmsError("PIN_REFUSED", "CKR_PIN_INCORRECT");
        },
        change:
          change ??
          (async (_present, fresh) => {
            const text = fresh.toString();
            await passes("before C_SetPIN");
            inForce = text;
            await passes("after C_SetPIN");
            return undefined;
          }),
      },
    }),
  ]);
}

/** Returns the PIN that two shares of the newest epoch open. */
async function opened(): Promise<string> {
  const gathering = new Gathering(readSealedPin(path));
  for (const share of pages.filter(({ epoch }) => epoch === gathering.sealed.epoch).slice(0, 2)) {
    gathering.add(copyOf(share));
  }
  return (await gathering.open()).toString();
}

it("a renewal gives the token another PIN, and only shares of the new epoch count", async () => {
  const [earlier] = pages;
  expect(await renew()).toMatchObject({ epoch: 2, threshold: 2 });
  expect(await opened()).toBe(inForce);
  expect(inForce).not.toBe("first");
  expect(new Gathering(readSealedPin(path)).add(copyOf(earlier as Share))).toBe("outdated");
  expect([wrong, existsSync(`${path}.next`)]).toEqual([0, false]);
});

describe("killed", () => {
  it.each(STEPS)(
    "at %s, a repetition finishes with at most one wrong PIN, and the shares open the PIN",
    async (step) => {
      expect(await renew({ killedAt: step })).toBeUndefined();
      const mayBeChanged = step.endsWith("C_SetPIN");
      expect(existsSync(`${path}.next`)).toBe(mayBeChanged);
      const sealed = await renew();
      expect(await opened()).toBe(inForce);
      expect(inForce).not.toBe("first");
      expect(wrong).toBe(step === "after C_SetPIN" ? 1 : 0);
      // The pages of an abandoned attempt are outdated, not merely wrong.
      const epochs = new Set(pages.map(({ epoch }) => epoch));
      expect(sealed?.epoch).toBe(Math.max(...epochs));
      expect(existsSync(`${path}.next`)).toBe(false);
    },
  );

  it.each(["before C_SetPIN", "after C_SetPIN"] as const)(
    "%s, new shares that are entered first cost at most one wrong PIN",
    async (step) => {
      await renew({ killedAt: step });
      await renew({ entered: (all) => all.toReversed() });
      expect(await opened()).toBe(inForce);
      expect(wrong).toBe(step === "before C_SetPIN" ? 1 : 0);
    },
  );

  it("after C_SetPIN, the earlier shares alone change nothing", async () => {
    await renew({ killedAt: "after C_SetPIN" });
    const before = inForce;
    await expect(renew({ entered: (all) => all.slice(0, 3) })).rejects.toThrow(/not enough/);
    expect([inForce, existsSync(`${path}.next`)]).toEqual([before, true]);
  });

  it("twice after C_SetPIN, the PIN in force is still found", async () => {
    await renew({ killedAt: "after C_SetPIN" });
    await renew({ killedAt: "try" });
    await renew();
    expect(await opened()).toBe(inForce);
  });
});

describe("C_SetPIN", () => {
  it("a refused renewal leaves the present shares in force", async () => {
    const change = (): Promise<KmsError> =>
      Promise.resolve(new KmsError("TOKEN_REFUSED", "CKR_FUNCTION_NOT_SUPPORTED"));
    await expect(renew({ change })).rejects.toThrow(
      /was not changed: CKR_FUNCTION_NOT_SUPPORTED; destroy the pages of epoch 2/,
    );
    expect([await opened(), wrong]).toEqual(["first", 0]);
    expect(await renew()).toMatchObject({ epoch: 3 });
  });

  it.each([true, false])(
    "whose answer is lost is found out by trying (carried out: %s)",
    async (carriedOut) => {
      const change = (_present: Buffer, fresh: Buffer): Promise<never> => {
        if (carriedOut) inForce = fresh.toString();
        return Promise.reject(new KmsError("HSM_UNAVAILABLE", "the token host ended"));
      };
      const outcome = renew({ change });
      if (carriedOut) expect(await outcome).toMatchObject({ epoch: 2 });
      else await expect(outcome).rejects.toThrow(/did not carry it out/);
      expect(await opened()).toBe(inForce);
      expect(wrong).toBe(carriedOut ? 1 : 0);
    },
  );

  it("a renewal after which neither PIN works keeps both files", async () => {
    const change = (): Promise<undefined> => {
      inForce = "somebody else's";
      return Promise.resolve(undefined);
    };
    await expect(renew({ change })).rejects.toThrow(/refuses both PINs/);
    expect([existsSync(path), existsSync(`${path}.next`), wrong]).toEqual([true, true, 2]);
  });
});

it("a planted file of another set is refused before a PIN is tried", async () => {
  const plan = { token: "token=kms", role: 1, threshold: 2, shares: 2 };
  const planted = await splitPin(Buffer.from("planted"), plan);
  writeFileSync(`${path}.next`, JSON.stringify(planted.sealed));
  await expect(renew()).rejects.toThrow(/does not renew set .*find out who put it there/);
  expect([inForce, wrong]).toEqual(["first", 0]);
});

it("a PIN that somebody has changed elsewhere stops a renewal after one attempt", async () => {
  inForce = "changed by a tool";
  await expect(renew()).rejects.toThrow(/somebody has changed it; nothing was changed/);
  expect([wrong, existsSync(`${path}.prepared`)]).toEqual([1, false]);
});

describe("a random PIN", () => {
  it("a new PIN has letters of both cases and digits, in 32 bytes or what the token allows", () => {
    expect(randomPin({ digitsOnly: false }).toString()).toMatch(
      /^(?=.*[0-9])(?=.*[a-z])(?=.*[A-Z])[0-9A-Za-z]{32}$/,
    );
    expect(randomPin({ min: 4, max: 8, digitsOnly: true }).toString()).toMatch(/^\d{8}$/);
    expect(randomPin({ min: 40, max: 64, digitsOnly: false })).toHaveLength(40);
    expect(randomPin({ min: 4, max: 64, length: 12, digitsOnly: false })).toHaveLength(12);
  });

  it.each([
    { max: 5 },
    { min: 300, max: 400 },
    { max: 8, length: 9 },
    { min: 8, length: 7 },
    { length: 256 },
  ])("is refused before anything is made if the token allows none: %j", (limits) => {
    expect(() => pinLength(limits)).toThrow(/accepts PINs of/);
  });
});
