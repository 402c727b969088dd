// How the limits on open files are reported when one is reached.

import { expect, it } from "vitest";

import { KmsError } from "../src/errors.js";
import { fileLimitIn, fileLimitTooLow } from "../src/file-limit.js";

const nodeError = (code: string, message: string): Error => Object.assign(new Error(message), { code });

it.each([
  ["EMFILE", "EMFILE: too many open files", "ulimit -n 1024"],
  ["ENFILE", "ENFILE: file table overflow", "fs.file-max"],
])("%s as a cause is reported as a limit on open files", (code, message, advice) => {
  const error = new Error("the program cannot be loaded", { cause: nodeError(code, message) });
  expect(fileLimitIn(error)).toContain(advice);
  expect(KmsError.from(error).code).toBe("HSM_UNAVAILABLE");
});

it("a package that is missing is an internal error", () => {
  const missing = nodeError("ERR_MODULE_NOT_FOUND", "Cannot find package '/no/such/index.js' imported");
  expect(fileLimitIn(missing)).toBeUndefined();
  expect(KmsError.from(missing).code).toBe("INTERNAL");
});

it("the limit of this process is high enough", () => {
  expect(fileLimitTooLow()).toBeUndefined();
});
