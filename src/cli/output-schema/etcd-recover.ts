// The output of `etcd recover`.
import { z } from "zod";
import { FINDING_CAUSES } from "../../admin/recover/find-unreadable.js";
import { usageReportSchema } from "../../etcd/usage-report.js";
import { OUTCOMES } from "../../admin/recover/deletion.js";
import { count, instant, next, type Printed } from "./printed.js";

const finding = z.object({
  key: z.string().describe("the etcd key"),
  resource: z.string(),
  modRevision: z.int(),
  cause: z.enum(FINDING_CAUSES),
  keyId: z.string().nullable().describe("null if the envelope cannot be read"),
  provider: z
    .string()
    .nullable()
    .describe("the provider's name in the EncryptionConfiguration; null if the envelope cannot be read"),
  reason: z.string(),
});

const deletion = z.object({
  run: z
    .string()
    .nullable()
    .describe(
      "names this run in the audit log, as details.run of every line of it; null if there was nothing to delete and nothing that an interrupted run had deleted",
    ),
  audit: z
    .object({ host: z.string(), file: z.string() })
    .nullable()
    .describe(
      "the machine and the audit log that record this run; null if run is null, or if there is no audit log",
    ),
  backup: z
    .object({ file: z.string(), sha256: z.string(), writtenAt: instant, revision: z.int() })
    .nullable()
    .describe("null if there was nothing to delete"),
  results: z.array(
    z.object({
      key: z.string(),
      modRevision: z.int(),
      outcome: z.enum(OUTCOMES),
      reason: z.string().nullable(),
    }),
  ),
  lists: z.array(
    z.object({
      resource: z.string(),
      error: z.string().nullable().describe("why a LIST of the resource still fails; null if it works"),
    }),
  ),
});

export const etcdRecoverOutput = z.object({
  listedAt: z.iso.datetime(),
  source: usageReportSchema.shape.source,
  prefix: z.string(),
  revision: z.int(),
  objects: count,
  unreadable: count.describe("the objects that cannot be decrypted; at most 10,000 of them are listed"),
  findings: z.array(finding),
  foreign: z
    .array(z.object({ provider: z.string(), objects: count, example: z.string().describe("an etcd key") }))
    .describe("the objects of other providers, which were not checked"),
  nodes: z
    .array(z.object({ url: z.string(), error: z.string().nullable() }))
    .describe("the nodes that were asked, because a key_id is unknown to the tokens"),
  unproven: z
    .array(
      z.object({
        keyId: z.string(),
        token: z.string(),
        reason: z.string(),
        isNeeded: z
          .boolean()
          .describe(
            "whether a stored object may be under it; then nothing is deleted while it is not proven",
          ),
      }),
    )
    .describe("KEKs that are not proven on a token; empty unless an object is damaged"),
  seconds: z.number(),
  deletion: deletion.nullable().describe("null without --delete"),
  next,
});
export type EtcdRecoverOutput = Printed<typeof etcdRecoverOutput>;
