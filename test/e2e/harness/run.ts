// What one run of the suite shares, handed down by global-setup.ts: the folder for everything it
// writes, which is removed at its end, and the binaries of the control plane.

import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { inject } from "vitest";

declare module "vitest" {
  interface ProvidedContext {
    runFolder: string;
    binaries: string;
  }
}

/** The folder with etcd and kube-apiserver. */
export function binaries(): string {
  return inject("binaries");
}

/** A new, empty folder. Its path is short enough for a unix socket in it. */
export async function newFolder(name: string): Promise<string> {
  return mkdtemp(join(inject("runFolder"), `${name}-`));
}
