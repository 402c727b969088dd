// The folders and the link of a node, as deploy/static-pod/tmpfiles.conf declares them (tmpfiles.d(5)): `init` makes them
// at once, and systemd-tmpfiles makes those under /run again at each boot.
import { readTemplate } from "./templates.js";

export interface FolderLine {
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

export interface LinkLine {
  readonly path: string;
  readonly target: string;
}

interface NodeFolders {
  readonly folders: readonly FolderLine[];
  readonly links: readonly LinkLine[];
}

/** Returns the folders and links of the template, in its order. */
export function readFolders(): NodeFolders {
  const rows = readTemplate("static-pod/tmpfiles.conf")
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => line.split(/\s+/));
  return {
    folders: rows.flatMap(([type, path = "", mode = "", user = "", group = ""]) =>
      type === "d" ? [{ path, mode: Number.parseInt(mode, 8), uid: idOf(user), gid: idOf(group) }] : [],
    ),
    links: rows.flatMap(([type, path = "", , , , , target = ""]) => (type === "L" ? [{ path, target }] : [])),
  };
}

function idOf(name: string): number {
  return name === "root" ? 0 : Number(name);
}
