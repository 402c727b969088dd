// Prints "N passed, N failed" for a run of vitest: tally.js JSON-REPORT EXIT-STATUS
// A file that failed outside its tests counts as one failure, and so does a run that ended badly without
// naming a failed test, or ran no test at all. Exits 1 if anything failed.
import { existsSync, readFileSync } from "node:fs";

const [report, status] = process.argv.slice(2);
const files = existsSync(report) ? JSON.parse(readFileSync(report, "utf8")).testResults : [];
let passed = 0;
let failed = 0;
for (const file of files) {
  const count = (wanted) => file.assertionResults.filter((test) => test.status === wanted).length;
  const failures = count("failed");
  passed += count("passed");
  failed += failures === 0 && file.status === "failed" ? 1 : failures;
}
if (failed === 0 && (status !== "0" || passed === 0)) failed = 1;
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
