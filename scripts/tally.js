// Prints "N passed, N failed" for a run of vitest: tally.js JSON-REPORT EXIT-STATUS
// A file that failed outside its tests counts as one failure, and so does a run that ended badly without
// naming a failed test, or ran no test at all. Exits 1 if anything failed. What failed is named once more before the
// count, with the beginning of its message: the end of a long log is what a reader sees, and often all that is kept.
import { existsSync, readFileSync } from "node:fs";

const [report, status] = process.argv.slice(2);
const files = existsSync(report) ? JSON.parse(readFileSync(report, "utf8")).testResults : [];
const MESSAGE_LINES = 12;

const explain = (name, message = "") =>
  console.log([`failed: ${name}`, ...message.split("\n").slice(0, MESSAGE_LINES)].join("\n    "));

let passed = 0;
let failed = 0;
for (const file of files) {
  const count = (wanted) => file.assertionResults.filter((test) => test.status === wanted).length;
  const failures = count("failed");
  for (const test of file.assertionResults.filter(({ status }) => status === "failed")) {
    explain(`${file.name}: ${test.fullName}`, test.failureMessages.join("\n"));
  }
  if (failures === 0 && file.status === "failed") explain(file.name, file.message);
  passed += count("passed");
  failed += failures === 0 && file.status === "failed" ? 1 : failures;
}
if (failed === 0 && (status !== "0" || passed === 0)) failed = 1;
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
