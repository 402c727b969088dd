// The manifest of a folder of evidence, version 1: the name, length and SHA-256 of every other file. A name is that of a
// file in the folder itself, so that a manifest that somebody else wrote cannot point outside it.
import { createHash } from "node:crypto";
import { z } from "zod";

export const MANIFEST = "manifest.json";
/** Longest file of a folder, in bytes. */
export const MAX_FILE_BYTES = 64 * 1024 * 1024;
export const MAX_MANIFEST_BYTES = 64 * 1024;
const MAX_FILES = 100;

const file = z.strictObject({
  name: z
    .string()
    .regex(/^[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?$/)
    .refine((name) => name !== MANIFEST),
  bytes: z.int().min(0).max(MAX_FILE_BYTES),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});

const manifest = z.strictObject({
  apiVersion: z.literal("kms-pkcs11.dev/v1"),
  kind: z.literal("EvidenceManifest"),
  toolVersion: z.string().max(64),
  collectedAt: z.iso.datetime(),
  files: z
    .array(file)
    .max(MAX_FILES)
    .refine((files) => new Set(files.map(({ name }) => name)).size === files.length),
});

export type Manifest = z.infer<typeof manifest>;

/** Returns the digest of bytes as manifests write it. */
export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Returns a manifest of these files. */
export function manifestOf(
  files: ReadonlyMap<string, Buffer>,
  toolVersion: string,
  collectedAt: Date,
): Manifest {
  return manifest.parse({
    apiVersion: "kms-pkcs11.dev/v1",
    kind: "EvidenceManifest",
    toolVersion,
    collectedAt: collectedAt.toISOString(),
    files: [...files].map(([name, bytes]) => ({ name, bytes: bytes.length, sha256: sha256(bytes) })),
  });
}

/** Returns the manifest; undefined if the bytes are not one of version 1. */
export function parseManifest(bytes: Buffer): Manifest | undefined {
  try {
    return manifest.parse(JSON.parse(bytes.toString("utf8")));
  } catch {
    return undefined;
  }
}
