// Compares a plan with the node, before anything is written: what is new, what exists already, what differs, and what
// must not be touched because another user controls its path. The rule about owners is that of files/ownership.ts.
import { accessSync, constants, lstatSync, readlinkSync, realpathSync, statSync, type Stats } from "node:fs";
import { dirname, join, relative } from "node:path";
import { KmsError } from "../errors.js";
import { fileError } from "../files/file-error.js";
import { folderProblem } from "../files/ownership.js";
import { readRegular } from "../files/regular-file.js";
import type { Planned } from "./plan.js";

/** `kept`: the operator may have changed it. `other`: another content, owner or mode. */
export type PartState = "new" | "unchanged" | "kept" | "other";

export interface InspectedPart {
  readonly part: Planned;
  readonly state: PartState;
  /** What differs, if anything does. */
  readonly difference?: string;
}

const MAX_BYTES = 1024 * 1024;
const WRITABLE_BY_ALL = 0o002;
const TRUST = { danger: "replace the files that init writes" };

/**
 * Returns each part with its state on the node whose files are under `root`.
 * @throws KmsError CONFIG_INVALID that names every path that cannot be written or that another user controls
 */
export function inspectNode(parts: readonly Planned[], root: string): InspectedPart[] {
  const problems = new Set<string>();
  const inspected = parts.flatMap((part) => {
    try {
      requireTrustedFolder(part, root);
      return [inspect(part, join(root, part.path))];
    } catch (error) {
      problems.add((fileError(error) ?? KmsError.from(error)).message);
      return [];
    }
  });
  if (problems.size > 0) throw new KmsError("CONFIG_INVALID", [...problems].join("\n"));
  return inspected;
}

/** Checks the nearest existing folder above the part: in it, only root or this user may replace what is written. */
function requireTrustedFolder({ kind, path }: Planned, root: string): void {
  let folder = dirname(join(root, path));
  while (statOf(folder) === undefined && folder !== root) folder = dirname(folder);
  const real = realpathSync(folder);
  if (relative(realpathSync(root), real).startsWith("..")) {
    throw new KmsError("CONFIG_INVALID", `${folder} is a link to ${real}, outside ${root}; remove it`);
  }
  // A folder is made and given away without following links, so root's /var/log may belong to a group, as on Ubuntu.
  const problem = kind === "folder" && isRoots(statSync(real)) ? undefined : folderProblem(folder, TRUST);
  if (problem !== undefined) throw new KmsError("CONFIG_INVALID", problem);
  // A dry run of another user finds out what root would write.
  if (process.geteuid?.() === 0) accessSync(real, constants.W_OK | constants.X_OK);
}

function isRoots({ uid, mode }: Stats): boolean {
  return uid === 0 && (mode & WRITABLE_BY_ALL) === 0;
}

function statOf(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

function inspect(part: Planned, path: string): InspectedPart {
  const stats = statOf(path);
  if (stats === undefined) return { part, state: "new" };
  if (part.kind === "link") return inspectLink(part, path, stats);
  requireKind(part, path, stats);
  // Others use such a folder too, and may have given it another mode.
  if (part.kind === "folder" && part.isShared === true) return { part, state: "unchanged" };
  const difference = [ownerDifference(part, stats), contentDifference(part, path)].filter(
    (one) => one !== "",
  );
  if (difference.length === 0) return { part, state: "unchanged" };
  const isKept = part.kind === "file" && part.isStart === true && ownerDifference(part, stats) === "";
  return { part, state: isKept ? "kept" : "other", difference: difference.join(", ") };
}

function inspectLink(part: Planned & { kind: "link" }, path: string, stats: Stats): InspectedPart {
  if (!stats.isSymbolicLink()) {
    const unit = stats.isDirectory()
      ? ", but a folder, as systemd makes it while the unit runs: stop that first"
      : "";
    throw refused(path, `is not a symbolic link${unit}`);
  }
  const target = readlinkSync(path);
  return target === part.target
    ? { part, state: "unchanged" }
    : { part, state: "other", difference: `it leads to ${target}` };
}

function requireKind({ kind }: Planned, path: string, stats: Stats): void {
  if (stats.isSymbolicLink()) throw refused(path, "is a symbolic link");
  if (kind === "folder" && !stats.isDirectory()) throw refused(path, "is not a folder");
  if (kind !== "folder" && !stats.isFile()) throw refused(path, "is not a regular file");
}

function refused(path: string, what: string): KmsError {
  return new KmsError("CONFIG_INVALID", `${path} ${what}; init does not follow or replace it: move it first`);
}

function ownerDifference(part: Exclude<Planned, { kind: "link" }>, stats: Stats): string {
  const mode = stats.mode & 0o7777;
  const found: string[] = [];
  if (mode !== part.mode) found.push(`mode ${octal(mode)} instead of ${octal(part.mode)}`);
  if (stats.uid !== part.uid || stats.gid !== part.gid) {
    found.push(`owner ${stats.uid}:${stats.gid} instead of ${part.uid}:${part.gid}`);
  }
  return found.join(", ");
}

/** The content of an existing PIN is never compared: it may have been changed on purpose, and is not shown. */
function contentDifference(part: Planned, path: string): string {
  if (part.kind !== "file") return "";
  const bytes = readRegular(path, MAX_BYTES);
  return bytes.equals(Buffer.from(part.content)) ? "" : "another content";
}

/** Returns permission bits as in `chmod 0644`. */
export function octal(mode: number): string {
  return mode.toString(8).padStart(4, "0");
}
