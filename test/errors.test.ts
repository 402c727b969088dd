// How errors of Node.js are reported that mean that the process may open too few files.

import { fileURLToPath } from "node:url";

import { expect, it } from "vitest";

import { fileLimitIn, KmsError } from "../src/errors.js";

const nodeError = (code: string, message: string): Error => Object.assign(new Error(message), { code });
const INSTALLED = fileURLToPath(new URL("../package.json", import.meta.url));

it.each([
  ["EMFILE", "EMFILE: too many open files", "ulimit -n 1024"],
  ["ENFILE", "ENFILE: file table overflow", "fs.file-max"],
  ["ERR_MODULE_NOT_FOUND", `Cannot find package '${INSTALLED}' imported from /app/main.js`, "ulimit -n 1024"],
])("%s as a cause is reported as a limit on open files", (code, message, advice) => {
  const error = new Error("the program cannot be loaded", { cause: nodeError(code, message) });
  expect(fileLimitIn(error)).toContain(advice);
  expect(KmsError.from(error).code).toBe("HSM_UNAVAILABLE");
});

it("a package that is really missing is an internal error", () => {
  const missing = nodeError(
    "ERR_MODULE_NOT_FOUND",
    "Cannot find package '/no/such/folder/index.js' imported",
  );
  expect(fileLimitIn(missing)).toBeUndefined();
  expect(KmsError.from(missing).code).toBe("INTERNAL");
});
