// Checks offline that a folder holds exactly the files of its manifest, unchanged. Whoever can write the folder can write another
// manifest, so the manifest's digest has to be kept elsewhere.
import { lstatSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { KmsError } from "../errors.js";
import { fileError } from "../files/file-error.js";
import { readRegular } from "../files/regular-file.js";
import { MANIFEST, MAX_MANIFEST_BYTES, parseManifest, sha256, type Manifest } from "./manifest.js";

/** The result of a verification; the folder is intact if `problems` is empty. */
export interface EvidenceReport {
  /** SHA-256 of the manifest, in hex. */
  readonly manifest: string;
  readonly collectedAt: string | null;
  readonly files: number;
  readonly problems: readonly string[];
}

/** Maximum number of problems in a report. */
const MAX_PROBLEMS = 100;

/**
 * Verifies a folder.
 * @param expected the manifest's SHA-256 in hex, if it is known
 * @throws KmsError CONFIG_INVALID if the folder cannot be read, or is not one of evidence
 */
export function verifyEvidence(folder: string, expected?: string): EvidenceReport {
  const entries = entriesOf(folder);
  const bytes = readManifest(folder);
  const digest = sha256(bytes);
  const problems =
    expected === undefined || expected === digest
      ? []
      : [`${MANIFEST}: is not the one with the digest ${expected}`];
  const manifest = parseManifest(bytes);
  if (manifest === undefined) {
    const problem = `${MANIFEST}: is not a manifest of evidence of version 1`;
    return { manifest: digest, collectedAt: null, files: 0, problems: [...problems, problem] };
  }
  const listed = new Set([MANIFEST, ...manifest.files.map(({ name }) => name)]);
  problems.push(
    ...manifest.files.flatMap((file) => problemOf(folder, file) ?? []),
    ...entries.filter((name) => !listed.has(name)).map((name) => `${name}: was added`),
  );
  return {
    manifest: digest,
    collectedAt: manifest.collectedAt,
    files: manifest.files.length,
    problems: limited(problems),
  };
}

function limited(problems: readonly string[]): string[] {
  const more = problems.length - MAX_PROBLEMS;
  return more <= 0 ? [...problems] : [...problems.slice(0, MAX_PROBLEMS), `${more} more problems`];
}

function entriesOf(folder: string): string[] {
  try {
    const isFolder = lstatSync(folder, { throwIfNoEntry: false })?.isDirectory() === true;
    if (isFolder) return readdirSync(folder).sort();
  } catch (error) {
    throw fileError(error) ?? error;
  }
  throw new KmsError("CONFIG_INVALID", `${folder} is not a folder; give one that 'evidence collect' wrote`);
}

function readManifest(folder: string): Buffer {
  const path = join(folder, MANIFEST);
  try {
    const isFile = lstatSync(path, { throwIfNoEntry: false })?.isFile() === true;
    if (isFile) return readRegular(path, MAX_MANIFEST_BYTES);
  } catch (error) {
    throw fileError(error) ?? error;
  }
  const how = "give a folder that 'evidence collect' wrote";
  throw new KmsError("CONFIG_INVALID", `${path} is missing or is not a regular file; ${how}`);
}

function problemOf(
  folder: string,
  { name, bytes, sha256: digest }: Manifest["files"][number],
): string | undefined {
  const path = join(folder, name);
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return `${name}: is missing`;
  if (!stat.isFile()) return `${name}: is not a regular file`;
  if (stat.size !== bytes) return `${name}: has ${stat.size} bytes instead of ${bytes}`;
  try {
    return sha256(readRegular(path, bytes)) === digest ? undefined : `${name}: was changed`;
  } catch (error) {
    return `${name}: cannot be read (${(error as NodeJS.ErrnoException).code ?? KmsError.from(error).message})`;
  }
}
