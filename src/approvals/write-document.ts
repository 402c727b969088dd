// Writes policies and approvals where an operator names them: a new file never overwrites another one, and a changed file is
// replaced as a whole.
import { existsSync, realpathSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { KmsError } from "../errors.js";
import { codeOf } from "../files/file-error.js";
import { readRegular } from "../files/regular-file.js";
import { readDocument } from "./document.js";

/** Requires that a file does not exist yet, before somebody signs its content. @throws KmsError CONFIG_INVALID */
export function requireNew(path: string): void {
  if (existsSync(path)) throw existsAlready(path);
}

function existsAlready(path: string, cause?: unknown): KmsError {
  return new KmsError("CONFIG_INVALID", `${path}: exists already; choose another name`, cause);
}

/** Writes a new file. @throws KmsError CONFIG_INVALID if it exists or cannot be written */
export function writeNewDocument(path: string, text: string): void {
  try {
    writeFileSync(path, text, { flag: "wx", mode: 0o644 });
  } catch (error) {
    const code = codeOf(error);
    if (code === "EEXIST") throw existsAlready(path, error);
    throw new KmsError("CONFIG_INVALID", `${path}: cannot be written (${code}); name another file`, error);
  }
}

/** A file that is about to be changed. */
export interface DocumentBefore {
  /** The file itself, if the operator named a link to it. */
  readonly path: string;
  readonly text: string;
}

/** Reads a file that will be replaced. @throws KmsError CONFIG_INVALID if it is not a regular file */
export function readForChange(path: string): DocumentBefore {
  const text = readDocument(path, readRegular);
  return { path: realpathSync(path), text };
}

/**
 * Replaces a file. Somebody else may have signed it since it was read: their signature must not be lost.
 * @throws KmsError CONFIG_INVALID if it cannot be written, or has changed
 */
export function replaceDocument({ path, text: before }: DocumentBefore, text: string): void {
  if (readDocument(path, readRegular) !== before) {
    throw new KmsError(
      "CONFIG_INVALID",
      `${path}: somebody has changed it meanwhile, so nothing was written; repeat the command`,
    );
  }
  const draft = `${path}.${process.pid}.new`;
  writeNewDocument(draft, text);
  try {
    renameSync(draft, path);
  } catch (error) {
    rmSync(draft, { force: true });
    throw new KmsError("CONFIG_INVALID", `${path}: cannot be written (${codeOf(error)})`, error);
  }
}
