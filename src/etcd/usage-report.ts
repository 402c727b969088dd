// The usage report: a census with its source and time, as a file that `keys destroy` accepts as evidence. It is as
// trustworthy as its folder: anybody who can write the file can forge it.
import { closeSync, openSync, writeFileSync } from "node:fs";
import { z } from "zod";
import { KmsError } from "../errors.js";
import { codeOf } from "../files/file-error.js";
import { readRegular } from "../files/regular-file.js";
import { giveToFolderOwner } from "../files/state-file.js";
import type { CensusResult } from "./census.js";
import { normalPrefix } from "./storage-key.js";

/** A report has a few lines for each resource and key_id, whatever the number of objects. */
const MAX_BYTES = 16 * 1024 * 1024;

const distinct = z.strictObject({ count: z.int().min(0), isAtLeast: z.boolean() });
const counts = z.record(z.string(), z.int().min(1));

const usage = z.strictObject({
  protection: z.enum(["kms-v2", "other-provider", "plaintext", "unreadable"]),
  provider: z.string(),
  keyId: z.string().nullable(),
  objects: z.int().min(1),
  seeds: distinct.nullable(),
  resources: counts,
  namespaces: distinct,
  oldestRevision: z.int(),
  newestRevision: z.int(),
});

const source = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("etcd"),
    endpoints: z.array(z.string()),
    /** Hexadecimal, as `etcdctl endpoint status` prints it. */
    clusterId: z.string().regex(/^[0-9a-f]{1,16}$/),
    etcdVersion: z.string(),
  }),
  z.strictObject({
    kind: z.literal("snapshot"),
    /** The file's digest in hexadecimal. */
    sha256: z.string().regex(/^[0-9a-f]{64}$/),
  }),
]);

export const usageReportSchema = z.strictObject({
  apiVersion: z.literal("kms-pkcs11.dev/v1"),
  kind: z.literal("UsageReport"),
  toolVersion: z.string(),
  /** When the scan began. */
  startedAt: z.iso.datetime(),
  finishedAt: z.iso.datetime(),
  source,
  /** The prefix of the keys that were read. */
  prefix: z.string(),
  /** The revisions at which keys were read; they differ only if the first was compacted during the scan. */
  revisions: z.strictObject({ first: z.int(), last: z.int() }),
  objects: z.int().min(0),
  usages: z.array(usage),
  plaintextToEncrypt: counts.nullable(),
  unreadable: z.array(z.strictObject({ key: z.string(), reason: z.string() })),
});

export type UsageReport = z.infer<typeof usageReportSchema>;
export type UsageSource = z.infer<typeof source>;

export interface ReportParts {
  readonly toolVersion: string;
  readonly startedAt: Date;
  readonly finishedAt: Date;
  readonly source: UsageSource;
  readonly prefix: string;
  readonly revisions: { readonly first: number; readonly last: number };
}

/** Returns a report of a census. */
export function usageReport(census: CensusResult, parts: ReportParts): UsageReport {
  return usageReportSchema.parse({
    apiVersion: "kms-pkcs11.dev/v1",
    kind: "UsageReport",
    ...parts,
    startedAt: parts.startedAt.toISOString(),
    finishedAt: parts.finishedAt.toISOString(),
    prefix: normalPrefix(parts.prefix),
    ...census,
  });
}

/**
 * Writes a report, mode 0600. A file that root creates in the folder of another user, such as the plugin's state
 * directory, belongs to that user. @throws KmsError CONFIG_INVALID if the file cannot be written
 */
export function writeUsageReport(path: string, report: UsageReport): void {
  try {
    const file = openForWriting(path);
    try {
      writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw new KmsError(
      "CONFIG_INVALID",
      `--report: ${path} cannot be written (${codeOf(error)}); give another file`,
      error,
    );
  }
}

/** Only a new file changes its owner: an existing one may be a link to another user's file. */
function openForWriting(path: string): number {
  let file: number;
  try {
    file = openSync(path, "wx", 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    return openSync(path, "w", 0o600);
  }
  giveToFolderOwner(file, path);
  return file;
}

/** Returns the report in a file. @throws KmsError CONFIG_INVALID if it is not a usage report */
export function readUsageReport(path: string): UsageReport {
  let text: string;
  try {
    text = readRegular(path, MAX_BYTES).toString("utf8");
  } catch (error) {
    if (error instanceof KmsError) throw error;
    throw new KmsError(
      "CONFIG_INVALID",
      `${path}: cannot be read (${codeOf(error)}); give a readable usage report`,
      error,
    );
  }
  try {
    return usageReportSchema.parse(JSON.parse(text));
  } catch (error) {
    throw new KmsError(
      "CONFIG_INVALID",
      `${path}: is not a usage report; create one with 'kms-pkcs11 etcd usage --report'`,
      error,
    );
  }
}
