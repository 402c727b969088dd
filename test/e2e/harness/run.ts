// What all tests of one run share, from global-setup.ts: the folder for everything that they write, which is removed at
// the end, and the control plane's binaries.

import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { inject } from "vitest";

declare module "vitest" {
  interface ProvidedContext {
    runFolder: string;
    binaries: string;
  }
}

/** Returns the folder that contains etcd and kube-apiserver. */
export function binaries(): string {
  return inject("binaries");
}

/** Creates an empty folder. Its path is short enough for a unix socket in it. */
export async function newFolder(name: string): Promise<string> {
  return mkdtemp(join(inject("runFolder"), `${name}-`));
}
