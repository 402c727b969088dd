// The output of commands about a plugin and its node: status, conformance, check, init, console, audit, version.
import { z } from "zod";
import { count, verdict, type Printed } from "./printed.js";

export const statusOutput = z.object({
  version: z.string().describe("version of the KMS API"),
  healthz: z.string().describe("ok, or what is wrong"),
  keyId: z.string(),
  roundTrip: z
    .object({
      ciphertextBytes: count,
      annotations: z.array(z.string()),
      keyId: z.string(),
      encryptMs: z.number(),
      decryptMs: z.number(),
    })
    .optional()
    .describe("only with --round-trip"),
});
export type StatusOutput = Printed<typeof statusOutput>;

export const conformanceOutput = z.object({
  findings: z.array(
    z.object({
      verdict: z.enum(["ok", "warn", "fail", "no"]),
      rule: z.string(),
      level: z.enum(["must", "should", "may"]),
      holds: z.boolean(),
      seen: z.string(),
    }),
  ),
});
export type ConformanceOutput = Printed<typeof conformanceOutput>;

const findings = z.array(z.object({ group: z.string(), verdict, subject: z.string(), detail: z.string() }));

export const checkOutput = z.object({
  as: z.string().describe("with whose rights files and sockets were tried"),
  findings,
  counts: z.object({ ok: count, warn: count, fail: count }),
});
export type CheckOutput = Printed<typeof checkOutput>;

export const initOutput = z.object({
  parts: z.array(
    z.object({
      path: z.string(),
      kind: z.enum(["folder", "file", "pin", "link"]),
      state: z
        .enum(["new", "unchanged", "kept", "other"])
        .describe("before this command; kept: the operator may have changed it; other: it differed"),
      difference: z.string().optional(),
      target: z.string().optional().describe("only of a link"),
      mode: z.string().optional().describe("in octal; not of a link"),
      owner: z.string().optional().describe("user and group by number; not of a link"),
      content: z.string().optional().describe("only of a file"),
    }),
  ),
  findings: findings.optional().describe("of the check that follows; absent if there was none"),
  clusterDigest: z.string().describe("the same on every node of a cluster"),
  next: z
    .array(
      z.object({
        command: z.string().optional().describe("for a shell; absent if the step is something else"),
        why: z.string().describe("what the step is for, for people; its wording may change"),
      }),
    )
    .describe("what to do next: a list of steps in their order, while other commands print one as a string"),
});
export type InitOutput = Printed<typeof initOutput>;

export const consoleOutput = z.object({ url: z.string().describe("works once") });
export type ConsoleOutput = Printed<typeof consoleOutput>;

const auditRemark = z.object({
  file: z.string(),
  line: count.describe("counted from 1; 0 if it concerns the whole file"),
  problem: z.string(),
});
const auditLine = z.object({ seq: z.int(), time: z.string() });

export const auditVerifyOutput = z.object({
  files: z.array(z.string()),
  lines: count,
  first: auditLine.nullable(),
  last: auditLine.nullable(),
  problems: z.array(auditRemark).describe("empty if the log is intact"),
  remarks: z.array(auditRemark).describe("what does not indicate a change, such as lost events"),
});
export type AuditVerifyOutput = Printed<typeof auditVerifyOutput>;

export const versionOutput = z.object({
  version: z.string(),
  node: z.string(),
  openssl: z.string(),
  platform: z.string(),
  arch: z.string(),
});
export type VersionOutput = Printed<typeof versionOutput>;
