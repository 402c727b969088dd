// The progress bar on a terminal: it is drawn, and Ctrl-C still ends the command.

import { spawnSync } from "node:child_process";

import { expect, it } from "vitest";

const PROGRESS = new URL("../../dist/cli/progress.js", import.meta.url).href;

it("the progress bar leaves signals to the command", () => {
  const program = `
    import { startProgress } from "${PROGRESS}";
    startProgress({ isInteractive: true }, "objects", 10).update(1);
    await new Promise((resolve) => setTimeout(resolve, 150));
    process.kill(process.pid, "SIGINT");
    setTimeout(() => process.exit(0), 1_000);`;
  const command = `${process.execPath} --input-type=module -e '${program}'`;
  const options = { encoding: "utf8", input: "" } as const;
  const { status, stdout } = spawnSync("script", ["-qec", command, "/dev/null"], options);
  expect([status, stdout]).toEqual([128 + 2, expect.stringContaining("of 10 objects")]);
});
