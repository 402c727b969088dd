import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { describeUser } from "../../src/token-host/unreadable-paths.js";

const folder = mkdtempSync(join(tmpdir(), "unreadable-"));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe("the user of a token host", () => {
  it("a token host's user is named with the variables of unreadable paths, never their values", () => {
    const text = describeUser({
      SOFTHSM2_CONF: "/no/such/file",
      VENDOR_CONF: folder,
      PATH: "/bin:/no/where",
    });
    expect(text).toBe(`uid ${process.getuid?.()}, which cannot read the path in SOFTHSM2_CONF (ENOENT)`);
  });

  it("a token host's user is named alone if every path can be read", () => {
    const file = join(folder, "vendor.conf");
    writeFileSync(file, "");
    chmodSync(file, 0o400);
    const env = { VENDOR_CONF: file, HOME: "/no/such/home", MODE: "fast", SLASHES: "/no/such:/list" };
    expect(describeUser(env)).toBe(`uid ${process.getuid?.()}`);
  });
});
