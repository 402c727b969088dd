// Prints the failures of a run of vitest and "N passed, N failed": tally.js RESULTS-FILE EXIT-STATUS
// results-reporter.js writes RESULTS-FILE. A run that ended badly without a failure to name, or that ran no test,
// counts as one failure. The first failure is printed last, with its assertion, because the end of a long log is what
// a reader sees and often all that is kept. Exits 1 if anything failed.
import { existsSync, readFileSync } from "node:fs";
import { stripVTControlCharacters } from "node:util";

const MESSAGE_LINES = 40;
const MOST_NAMES = 50;

const [file, status] = process.argv.slice(2);
const { passed, failures } = existsSync(file)
  ? JSON.parse(readFileSync(file, "utf8"))
  : { passed: 0, failures: [] };

const [first, ...others] = failures;
for (const { name } of others.slice(0, MOST_NAMES).reverse()) console.log(`failed: ${name}`);
if (first !== undefined) {
  console.log(
    [
      `failed first: ${first.name}`,
      ...stripVTControlCharacters(first.text).split("\n").slice(0, MESSAGE_LINES),
    ].join("\n    "),
  );
}

const failed = failures.length === 0 && (status !== "0" || passed === 0) ? 1 : failures.length;
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
