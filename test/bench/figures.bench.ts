// Measures every performance target of this project on one machine in one run, alone and in turn with the reference
// plugin. A missed target is reported but does not fail the run: a busy machine is not a defect.

import { afterAll, expect, test } from "vitest";

import { describeMachine } from "../../src/bench/machine.js";
import type { BenchRun } from "./bench-run.js";
import { besideReference } from "./cases/beside-reference.js";
import { calls } from "./cases/calls.js";
import { coldStart } from "./cases/cold-start.js";
import { failover } from "./cases/failover.js";
import { endOfHang, statusDuringHang } from "./cases/hangs.js";
import { memory } from "./cases/memory.js";
import { starts } from "./cases/starts.js";
import { GO_LOAD } from "./load-generator.js";
import { Results } from "./results.js";
import { FULL, QUICK } from "./sizes.js";
import { Stage } from "./stage.js";

const sizes = process.env["BENCH_QUICK"] === "1" ? QUICK : FULL;
const memoryRequests = Number(process.env["BENCH_REQUESTS"] ?? sizes.memoryRequests);

const run: BenchRun = {
  stage: new Stage(),
  load: GO_LOAD,
  sizes: { ...sizes, memoryRequests },
  results: new Results(describeMachine(), { name: "bench" }),
};

/** In the order of the table. */
const CASES: Readonly<Record<string, (run: BenchRun) => Promise<void>>> = {
  "cold start: distinct DEK seeds one after another, with a slow HSM": coldStart,
  "start to the first ok Status, and of short commands": starts,
  "beside the reference plugin, in turn": besideReference,
  "calls into the HSM for each request": calls,
  "Status while every call into the HSM hangs": statusDuringHang,
  "a hang of every call ends": endOfHang,
  "the first of two tokens fails": failover,
  "memory over many requests": memory,
};

afterAll(async () => {
  await run.stage.close();
  console.log(`\n${run.results.write()}\nbench/results/ has all of it: JSON, text, Markdown and the chart`);
  if (process.env["BENCH_WRITE"] !== "1") return;
  run.results.intoPage();
  run.results.intoReadme();
});

test.each(Object.entries(CASES))("%s", async (_title, measure) => {
  const before = run.results.findings.length;
  await measure(run);
  expect(run.results.findings.length).toBeGreaterThan(before);
});
