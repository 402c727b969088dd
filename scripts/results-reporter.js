// A reporter of vitest that writes the counts and the failures of a run, with the diff of each failed assertion, as
// JSON into the file that RESULTS_FILE names. tally.js prints them.
import { writeFileSync } from "node:fs";

export default class ResultsReporter {
  onTestRunEnd(modules, unhandledErrors) {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const failures = [
      ...tests.filter((test) => stateOf(test) === "failed").map(failureOfTest),
      ...modules.flatMap(failuresOutsideTests),
      ...unhandledErrors.map((error) => ({ name: "outside every test", text: textOf([error]) })),
    ].sort((one, other) => (one.startMs ?? Infinity) - (other.startMs ?? Infinity));
    const passed = tests.filter((test) => stateOf(test) === "passed").length;
    writeFileSync(process.env.RESULTS_FILE, JSON.stringify({ passed, failures }));
  }
}

const stateOf = (test) => test.result().state;

const failureOfTest = (test) => ({
  name: `${test.module.relativeModuleId}: ${test.fullName}`,
  text: textOf(test.result().errors ?? []),
  startMs: test.diagnostic()?.startTime,
});

/** One failure for a file that could not be loaded or whose set-up failed. */
function failuresOutsideTests(module) {
  const suites = [module, ...module.children.allSuites()];
  const errors = suites.flatMap((suite) => suite.errors());
  return errors.length === 0 ? [] : [{ name: module.relativeModuleId, text: textOf(errors) }];
}

/** Returns message, diff and the lines of the stack that lie in this project. */
function textOf(errors) {
  return errors
    .map(({ message, diff, stack }) => [message, diff, ownFrames(stack)].filter(Boolean).join("\n"))
    .join("\n");
}

const ownFrames = (stack = "") =>
  stack
    .split("\n")
    .filter((line) => /^\s+at .*\.[jt]s:/.test(line) && !line.includes("node_modules"))
    .join("\n");
