// A snapshot that changes while it is read: the restored bytes are the hashed bytes.
import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { afterAll, expect, it } from "vitest";

import { Snapshot } from "../../src/etcd/snapshot.js";
import { makeFolder } from "../support/token.js";

const folder = makeFolder("snapshot");

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

it("a snapshot is restored from a private copy, which is removed afterwards", async () => {
  const file = join(folder, "snapshot.db");
  writeFileSync(file, "the bytes that were there at first");
  const etcdutl = join(folder, "etcdutl");
  // Replaces the operator's file, then records the name and the content of the file that it was given.
  writeFileSync(
    etcdutl,
    `#!/bin/sh\necho replaced >${file}\necho "$3" >${folder}/given\ncp "$3" ${folder}/restored\nexit 1\n`,
  );
  chmodSync(etcdutl, 0o755);
  await expect(Snapshot.open(file, { etcd: "etcd", etcdutl })).rejects.toThrow(
    `--snapshot: ${etcdutl} cannot restore ${file}`,
  );
  const given = readFileSync(join(folder, "given"), "utf8").trim();
  expect(given).not.toBe(file);
  expect(readFileSync(join(folder, "restored"), "utf8")).toBe("the bytes that were there at first");
  expect(existsSync(dirname(given))).toBe(false);
});
