// The output of `config`: problems of a configuration, and the settings in force.
import { z } from "zod";
import type { Printed } from "./printed.js";

export const configValidateOutput = z.object({
  file: z.string().nullable().describe("null if flags give everything"),
  valid: z.boolean(),
  problems: z.array(z.string()).describe("flag, or file:line:column and setting; what is wrong; what to do"),
  warnings: z.array(z.string()),
});
export type ConfigValidateOutput = Printed<typeof configValidateOutput>;

const source = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("default") }),
  z.object({ kind: z.literal("file"), file: z.string(), line: z.int(), column: z.int() }),
  z.object({ kind: z.literal("flag"), flag: z.string() }),
  z.object({ kind: z.literal("environment"), variable: z.string() }),
]);

export const configPrintOutput = z.object({
  file: z
    .object({ path: z.string(), source: z.enum(["--config", "$KMS_PKCS11_CONFIG", "default"]) })
    .nullable(),
  settings: z.array(
    z.object({
      setting: z.string().describe("such as hsm.requestTimeout or failover[0].uri"),
      value: z.unknown().describe("as a configuration writes it, without secrets; null if there is none"),
      source,
    }),
  ),
  warnings: z.array(z.string()),
});
export type ConfigPrintOutput = Printed<typeof configPrintOutput>;
