// The findings of `kms-pkcs11 check` and the exit code that follows from them.
import { KmsError } from "../../errors.js";
import { exitCodeOf } from "../exit-code.js";
import { formatTable } from "../output.js";

export type Verdict = "ok" | "warn" | "fail";

export interface Finding {
  readonly verdict: Verdict;
  readonly subject: string;
  readonly detail: string;
}

export class Report {
  readonly findings: Finding[] = [];
  exitCode = 0;

  /** Adds a finding unless it is there already. */
  add(verdict: Verdict, subject: string, detail: string): void {
    const isSame = (one: Finding): boolean => one.subject === subject && one.detail === detail;
    if (!this.findings.some(isSame)) this.findings.push({ verdict, subject, detail });
  }

  /** Adds a failure; the highest exit code of all failures counts. */
  fail(subject: string, thrown: unknown): void {
    const error = KmsError.from(thrown);
    this.add("fail", subject, error.message);
    this.exitCode = Math.max(this.exitCode, exitCodeOf(error.code), 1);
  }
}

/** Returns one line per finding. */
export function findingsTable(findings: readonly Finding[]): string {
  const rows = findings.map(({ verdict, subject, detail }) => [verdict, subject, detail.split("\n")]);
  return formatTable(["", "", ""], rows).trimStart();
}
