// A PKCS#11 library that cannot be loaded: the message names the missing shared library and what provides it.

import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, it } from "vitest";

import { adviceFor } from "../../src/token-host/load-error.js";
import { makeFolder } from "../support/token.js";

const missing = (library: string): string =>
  `${library}: cannot open shared object file: No such file or directory`;

it.each<[string, RegExp]>([
  [
    missing("libcrypto.so.3"),
    /needs libcrypto\.so\.3, .* \(Debian: package libssl3\); in a container, copy it/,
  ],
  [missing("libtss2-esys.so.0"), /package libtss2-esys0\)/],
  [missing("libusb-1.0.so.0"), /package libusb-1\.0-0\)/],
  [missing("libvendor.so"), /needs libvendor\.so, which this system lacks: install it; in/],
  ["/m.so: version `GLIBC_2.38' not found (required by /m.so)", /built for a newer system, with GLIBC_2\.38/],
  ["/m.so: wrong ELF class: ELFCLASS32", /not a library for /],
  [missing("/m.so"), /^install the vendor's client or correct module-path$/],
  ["/m.so: undefined symbol: x", /^install the vendor's client or correct module-path$/],
])("the message for a library that cannot be loaded advises on: %s", (message, advice) => {
  expect(adviceFor(message, "/m.so")).toMatch(advice);
});

it("a library that lacks one it needs is recognised by the dynamic linker's message", () => {
  const folder = makeFolder("load-error");
  const [needed, library] = [join(folder, "libneeded.so.7"), join(folder, "library.so")];
  const source = join(folder, "empty.c");
  writeFileSync(source, "int nothing;\n");
  const compile = (out: string, ...more: string[]): void => {
    execFileSync("cc", ["-shared", "-fPIC", "-o", out, source, ...more]);
  };
  try {
    compile(needed, "-Wl,-soname,libneeded.so.7");
    compile(library, "-Wl,--no-as-needed", needed);
    rmSync(needed);
    let message = "";
    try {
      process.dlopen({ exports: {} }, library);
    } catch (error) {
      message = (error as Error).message.split("\n", 1)[0] ?? "";
    }
    expect(adviceFor(message, library)).toMatch(/needs libneeded\.so\.7, .* package libneeded7\)/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
