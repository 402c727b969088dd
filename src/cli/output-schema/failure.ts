// The line of JSON with which a command that fails ends its standard error.
import { z } from "zod";
import { ERROR_CODES } from "../../errors.js";
import type { Printed } from "./printed.js";

export const failureOutput = z
  .object({
    error: z.object({
      code: z
        .enum([...ERROR_CODES, "RESULT_LOST"])
        .describe("what happened, for programs; RESULT_LOST: standard output could not be written"),
      message: z.string().describe("what happened, for people; its wording may change"),
      next: z.string().describe("what to do, for people; its wording may change"),
    }),
  })
  .describe("the last line of standard error of a command that fails");
export type FailureOutput = Printed<typeof failureOutput>;
