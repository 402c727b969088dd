// The output of the commands that hold, split, send and forget the PIN. None of it contains a PIN or a share.
import { z } from "zod";
import { next, type Printed } from "./printed.js";

export const custodySplitOutput = z.object({
  sealed: z.string().describe("path of the sealed PIN"),
  token: z.string(),
  set: z.string(),
  epoch: z.int(),
  threshold: z.int(),
  shares: z.int(),
  next,
});
export type CustodySplitOutput = Printed<typeof custodySplitOutput>;

export const custodyTestOutput = z.object({
  shares: z.array(
    z.object({
      entry: z.int(),
      share: z.int().nullable(),
      epoch: z.int().nullable(),
      result: z.string().describe("ok, unreadable, or what is wrong with the share"),
      text: z.string(),
    }),
  ),
  opens: z.boolean().describe("whether the shares open the sealed PIN"),
});
export type CustodyTestOutput = Printed<typeof custodyTestOutput>;

export const unlockOutput = z.object({
  unlocked: z.boolean(),
  message: z.string(),
  accepted: z.boolean().optional().describe("whether a share was accepted; only with --share"),
  next,
});
export type UnlockOutput = Printed<typeof unlockOutput>;

export const lockOutput = z.object({ locked: z.boolean(), message: z.string(), next });
export type LockOutput = Printed<typeof lockOutput>;
