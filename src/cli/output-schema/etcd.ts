// The output of `etcd`: censuses, verifications and migrations.
import { z } from "zod";
import { usageReportSchema } from "../../etcd/usage-report.js";
import { FAILED_REASON, RESOURCE_COUNTS } from "../../etcd/verification-report.js";
import { count, next, type Printed } from "./printed.js";

export const etcdUsageOutput = usageReportSchema.extend({
  used: z.array(z.string()).describe("the key_ids of --fail-if-used that protect an object"),
});
export type EtcdUsageOutput = Printed<typeof etcdUsageOutput>;

export const etcdVerifyOutput = z.object({
  objects: count,
  decrypts: count.describe("the DEK seeds that the HSM was asked to decrypt"),
  seconds: z.number(),
  resources: z.array(z.object(RESOURCE_COUNTS)),
  failures: z.array(z.object(FAILED_REASON)),
});
export type EtcdVerifyOutput = Printed<typeof etcdVerifyOutput>;

export const etcdGetOutput = z.object({
  key: z.string(),
  modRevision: z.int(),
  keyId: z.string().optional().describe("absent for an object in clear"),
  value: z.base64().describe("the object in clear, in Base64"),
});
export type EtcdGetOutput = Printed<typeof etcdGetOutput>;

const survey = z.object({
  rows: z.array(
    z.object({
      resource: z.string(),
      objects: count,
      current: count.describe("under the active KEK"),
      stale: count.describe("to be rewritten"),
      clear: count.describe("in clear, which this migration does not concern"),
      aside: count.describe("encrypted otherwise, which this migration does not concern"),
      unreadable: count,
    }),
  ),
  revision: z.int(),
  left: count.describe("the stale and unreadable objects"),
});

export const etcdMigrateOutput = z.object({
  keyId: z.string(),
  dryRun: z.boolean(),
  before: survey,
  after: survey,
  passes: count
    .optional()
    .describe("absent, with the four counts that follow, if nothing had to be rewritten"),
  rewritten: count.optional(),
  overtaken: count.optional().describe("written by others under the active KEK in the meantime"),
  gone: count.optional(),
  interrupted: z.boolean().optional(),
  failures: z.array(
    z.object({
      resource: z.string(),
      reason: z.string(),
      objects: count,
      example: z.string().describe("an etcd key"),
    }),
  ),
  next,
});
export type EtcdMigrateOutput = Printed<typeof etcdMigrateOutput>;
