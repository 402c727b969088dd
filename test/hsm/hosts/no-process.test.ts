// A machine without enough file descriptors to start a token host.

import { ChildProcess, execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";

import { afterEach, expect, it, vi } from "vitest";

import { codeOf, useFaultyToken } from "../../support/faulty-token.js";
import { waitFor } from "../../support/wait.js";

/** A token host needs two for each lane and each standard stream; the test needs a few itself. */
const SPARE_DESCRIPTORS = 14;

const token = useFaultyToken();

const allowDescriptors = (most: string): void => {
  execFileSync("prlimit", ["--pid", String(process.pid), `--nofile=${most}:`]);
};

afterEach(() => {
  allowDescriptors("1024");
  vi.restoreAllMocks();
});

it("a host that cannot be spawned is reported with its cause and tried again", async () => {
  const signalled = vi.spyOn(ChildProcess.prototype, "kill");
  const open = readdirSync("/proc/self/fd").length;
  allowDescriptors(String(open + SPARE_DESCRIPTORS));
  const opened = token.open();
  await waitFor(() => opened.ended.length >= 3, { what: "three starts that failed", timeoutMs: 20_000 });
  expect(await codeOf(token.encrypt(opened))).toBe("HSM_UNAVAILABLE");
  expect(opened.hsm.state()).toMatchObject({
    reason: { message: expect.stringContaining("EMFILE") as string },
  });
  // For such a child, Node 20 has no process id and would send the signal to process 0 or to an earlier child.
  expect(signalled).not.toHaveBeenCalled();
  allowDescriptors("1024");
  await token.recovers(opened);
});
