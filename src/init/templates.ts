// The files of deploy/, from which `init` makes those of a node. They ship beside the program, so that what an operator
// reads there and what `init` writes have one source.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { KmsError } from "../errors.js";

/** Returns the text of a file under deploy/. @throws KmsError INTERNAL if the installation lacks it */
export function readTemplate(name: string): string {
  const path = fileURLToPath(new URL(`../../deploy/${name}`, import.meta.url));
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new KmsError("INTERNAL", `${path} is missing; install the plugin again`, error);
  }
}

/**
 * Replaces the only match of `pattern`.
 * @throws KmsError INTERNAL if the template has none or several, since a file would then lack what it needs
 */
export function fill(template: string, pattern: RegExp, text: string): string {
  const { length } = [...template.matchAll(new RegExp(pattern, `${pattern.flags}g`))];
  if (length !== 1) {
    throw new KmsError("INTERNAL", `a template has ${length} matches of ${pattern.source}`);
  }
  return template.replace(pattern, () => text);
}
