// The report of a recovery drill: what was rehearsed, how long each step took, and what could not be read. `drill` writes it,
// and `evidence collect` reads it.
import { z } from "zod";
import { FAILED_REASON, RESOURCE_COUNTS } from "../etcd/verification-report.js";
import { readGivenReport } from "./given-report.js";

/** In their order. */
export const DRILL_STEPS = [
  "snapshot",
  "token",
  "keks",
  "objects",
  "etcd",
  "plugin",
  "apiserver",
  "list",
] as const;
export type DrillStep = (typeof DRILL_STEPS)[number];

const count = z.int().min(0);
const seconds = z.number().min(0);

const step = z.strictObject({
  step: z.enum(DRILL_STEPS),
  outcome: z.enum(["passed", "failed", "not rehearsed"]),
  seconds: seconds.nullable().describe("null if it was not rehearsed"),
  detail: z.string().describe("the result, or why it failed or was not rehearsed"),
});

const snapshot = z.strictObject({
  file: z.string(),
  bytes: count,
  modifiedAt: z.iso.datetime().describe("when the file was last written, as its file system says"),
  sha256: z.string().nullable().describe("of the whole file, in hex; null if it is not a sound snapshot"),
  revision: z.int().nullable(),
  objects: count.nullable(),
});

const token = z.strictObject({
  label: z.string(),
  serial: z.string(),
  manufacturer: z.string(),
  model: z.string(),
  live: z
    .enum(["no", "same serial number", "not compared"])
    .describe("whether it may be the token of the live cluster"),
});

const kek = z.strictObject({
  keyId: z.string(),
  objects: count.describe("the objects in the snapshot that need it"),
  found: z.boolean().describe("whether a token holds it"),
  proven: z.boolean().describe("whether a token encrypted and decrypted under it"),
  detail: z.string(),
});

const listed = z.strictObject({
  resource: z.string(),
  expected: count.describe("in the snapshot"),
  objects: count.nullable().describe("that the API server listed; null if it did not"),
  problem: z.string().nullable(),
});

const notProven = z.strictObject({
  resource: z.string(),
  objects: count,
  provider: z
    .string()
    .describe("as in the stored prefix, such as aescbc:v1:key1 or kms:v2:other; identity if stored in clear"),
  reason: z.string(),
});

export const drillReportSchema = z.strictObject({
  apiVersion: z.literal("kms-pkcs11.dev/v1"),
  kind: z.literal("DrillReport"),
  toolVersion: z.string(),
  host: z.string(),
  startedAt: z.iso.datetime(),
  finishedAt: z.iso.datetime(),
  seconds,
  passed: z.boolean().describe("whether everything was read and no step failed"),
  complete: z.boolean().describe("whether every step was rehearsed"),
  snapshot,
  tokens: z.array(token),
  keks: z.array(kek),
  resources: z.array(z.strictObject(RESOURCE_COUNTS)),
  failures: z.array(z.strictObject(FAILED_REASON)),
  notProven: z
    .array(notProven)
    .default([])
    .describe("the objects of which the drill could not show that a restored cluster can read them"),
  listed: z.array(listed),
  programs: z.array(z.strictObject({ name: z.string(), path: z.string(), version: z.string() })),
  isolation: z
    .enum(["network namespace", "loopback"])
    .nullable()
    .describe("of etcd and the API server; null if neither was started"),
  steps: z.array(step),
});

export type DrillReport = z.infer<typeof drillReportSchema>;

/** Returns the report in a file. @throws KmsError CONFIG_INVALID */
export function readDrillReport(path: string): DrillReport {
  const refusal = "is not the report of a drill; create one with 'kms-pkcs11 drill --to FOLDER'";
  return readGivenReport(path, drillReportSchema, refusal);
}
