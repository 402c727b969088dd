// Writes policies and approvals where an operator names them: a new file never overwrites another one, and a changed file is
// replaced as a whole.
import { renameSync, rmSync, writeFileSync } from "node:fs";
import { KmsError } from "../errors.js";
import { codeOf } from "../files/file-error.js";

/** Writes a new file. @throws KmsError CONFIG_INVALID if it exists or cannot be written */
export function writeNewDocument(path: string, text: string): void {
  try {
    writeFileSync(path, text, { flag: "wx", mode: 0o644 });
  } catch (error) {
    const code = codeOf(error);
    const text = code === "EEXIST" ? "exists already; choose another name" : `cannot be written (${code})`;
    throw new KmsError("CONFIG_INVALID", `${path}: ${text}`, error);
  }
}

/** Replaces a file. @throws KmsError CONFIG_INVALID if it cannot be written */
export function replaceDocument(path: string, text: string): void {
  const draft = `${path}.${process.pid}.new`;
  writeNewDocument(draft, text);
  try {
    renameSync(draft, path);
  } catch (error) {
    rmSync(draft, { force: true });
    throw new KmsError("CONFIG_INVALID", `${path}: cannot be written (${codeOf(error)})`, error);
  }
}
