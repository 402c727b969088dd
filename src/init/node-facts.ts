// What `init` has to know about the node for which it writes files: numbers of users and groups, and which files a
// package has installed. Reads passwd(5) and group(5) under the folder that holds the node's files.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface NodeFacts {
  /** Returns the number of a user; undefined if the node does not know it. */
  readonly userId: (name: string) => number | undefined;
  /** Returns the name of a user; undefined if the node does not know the number. */
  readonly userName: (id: number) => string | undefined;
  /** Returns the number of a group; undefined if the node does not know it. */
  readonly groupId: (name: string) => number | undefined;
  readonly exists: (path: string) => boolean;
}

/** Returns the facts of the node whose files are under `root`, which is "/" for this machine. */
export function readNodeFacts(root: string): NodeFacts {
  const users = entries(join(root, "etc/passwd"));
  const groups = entries(join(root, "etc/group"));
  return {
    userId: (name) => users.find((one) => one.name === name)?.id,
    userName: (id) => users.find((one) => one.id === id)?.name,
    groupId: (name) => groups.find((one) => one.name === name)?.id,
    exists: (path) => existsSync(join(root, path)),
  };
}

/** Facts of a node that cannot be read, such as one whose files are only printed. */
export const UNKNOWN_NODE: NodeFacts = {
  userId: () => undefined,
  userName: () => undefined,
  groupId: () => undefined,
  exists: () => false,
};

function entries(path: string): { name: string; id: number }[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, "utf8")
    .split("\n")
    .flatMap((line) => {
      const [name = "", , id = ""] = line.split(":");
      return /^\d+$/.test(id) ? [{ name, id: Number(id) }] : [];
    });
}
