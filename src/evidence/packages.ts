// What runs: this program, Node.js with its libraries, the operating system, the PKCS#11 libraries with their digests, and the
// npm packages that are installed with the program, as a CycloneDX document (version 1.5).
import { createHash } from "node:crypto";
import { createReadStream, readdirSync, readFileSync } from "node:fs";
import { arch, release, type } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { VERSION } from "../version.js";

/** Maximum nesting of packages, in folders. */
const MAX_DEPTH = 4;

export interface RunningVersions {
  readonly program: string;
  readonly node: Readonly<Record<string, string | undefined>>;
  readonly system: string;
  readonly modules: readonly { readonly path: string; readonly sha256: string | null }[];
}

interface Component {
  readonly type: "library";
  readonly name: string;
  readonly version: string;
  readonly purl: string;
}

/** Returns what runs. @param modules paths of the PKCS#11 libraries */
export async function runningVersions(modules: readonly string[]): Promise<RunningVersions> {
  const digests = [...new Set(modules)].map(async (path) => ({ path, sha256: await digestOf(path) }));
  return {
    program: VERSION,
    node: process.versions,
    system: `${type()} ${release()} ${arch()}${osName()}`,
    modules: await Promise.all(digests),
  };
}

function osName(): string {
  try {
    const name = /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1];
    return name === undefined ? "" : `, ${name}`;
  } catch {
    return "";
  }
}

async function digestOf(path: string): Promise<string | null> {
  try {
    const hash = createHash("sha256");
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
    return hash.digest("hex");
  } catch {
    return null;
  }
}

/** Returns the installed packages as CycloneDX. */
export function packageList(): object {
  const root = fileURLToPath(new URL("../../node_modules/", import.meta.url));
  const found = new Map(componentsIn(root, MAX_DEPTH).map((one) => [one.purl, one]));
  return {
    bomFormat: "CycloneDX",
    specVersion: "1.5",
    version: 1,
    metadata: { component: { type: "application", name: "kubernetes-kms-pkcs11", version: VERSION } },
    components: [...found.values()].sort((one, other) => (one.purl < other.purl ? -1 : 1)),
  };
}

function componentsIn(folder: string, depth: number): Component[] {
  if (depth === 0) return [];
  return entriesOf(folder).flatMap((name) => {
    const path = join(folder, name);
    if (name.startsWith("@")) return componentsIn(path, depth);
    return [...componentOf(path), ...componentsIn(join(path, "node_modules"), depth - 1)];
  });
}

function entriesOf(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => !name.startsWith("."));
  } catch {
    return [];
  }
}

function componentOf(folder: string): Component[] {
  try {
    const { name, version } = JSON.parse(
      readFileSync(join(folder, "package.json"), "utf8"),
    ) as Partial<Component>;
    if (typeof name !== "string" || typeof version !== "string") return [];
    return [{ type: "library", name, version, purl: `pkg:npm/${name.replace("@", "%40")}@${version}` }];
  } catch {
    return [];
  }
}
