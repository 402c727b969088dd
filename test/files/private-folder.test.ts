// Making folders, also where nobody can make them.

import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, it } from "vitest";

import { makePrivateFolder, makePrivateFolderLater } from "../../src/files/private-folder.js";
import { makeFolder } from "../support/token.js";

const make = {
  makePrivateFolder: (path: string): Promise<void> =>
    new Promise((resolve) => {
      makePrivateFolder(path);
      resolve();
    }),
  makePrivateFolderLater,
};

it.each(["makePrivateFolder", "makePrivateFolderLater"] as const)(
  "%s makes a folder with its parents for this user alone, and leaves an existing one",
  async (name) => {
    const folder = makeFolder("private");
    await make[name](join(folder, "a/b/c"));
    expect(["a", "a/b", "a/b/c"].map((path) => statSync(join(folder, path)).mode & 0o777)).toEqual([
      0o700, 0o700, 0o700,
    ]);
    mkdirSync(join(folder, "open"), { mode: 0o755 });
    await make[name](join(folder, "open"));
    expect(statSync(join(folder, "open")).mode & 0o777).toBe(0o755);
  },
);

it.each(["makePrivateFolder", "makePrivateFolderLater"] as const)(
  "%s fails where a file is in the way, and where nobody can make a folder",
  async (name) => {
    const file = join(makeFolder("private"), "file");
    writeFileSync(file, "");
    await expect(make[name](file)).rejects.toMatchObject({ code: "EEXIST" });
    await expect(make[name](join(file, "below"))).rejects.toMatchObject({ code: "ENOTDIR" });
    // The kernel answers ENOENT although the parent exists.
    await expect(make[name]("/proc/a/b")).rejects.toMatchObject({ code: "ENOENT" });
  },
);
