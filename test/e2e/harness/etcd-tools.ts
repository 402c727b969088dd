// etcdctl and etcdutl for cases that save or restore a snapshot, with the etcd of this run. setup-envtest provides neither
// program; stand-ins then do what the cases need.

import { existsSync } from "node:fs";
import { chmod, mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { binaries } from "./run.js";

const STAND_INS = fileURLToPath(new URL("./stand-ins/", import.meta.url));

/** Returns whether the binaries of this run include the real program. */
export function hasEtcdTool(name: "etcdctl" | "etcdutl"): boolean {
  return existsSync(join(binaries(), name));
}

/** Puts etcd, etcdctl and etcdutl into a folder. */
export async function provideEtcdTools(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  await symlink(join(binaries(), "etcd"), join(folder, "etcd"));
  for (const tool of ["etcdctl", "etcdutl"] as const) {
    const path = join(folder, tool);
    if (hasEtcdTool(tool)) await symlink(join(binaries(), tool), path);
    else {
      await writeFile(path, `#!/bin/sh\nexec '${process.execPath}' '${STAND_INS}${tool}.mjs' "$@"\n`);
      await chmod(path, 0o755);
    }
  }
}
