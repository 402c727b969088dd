// What a check found: one line a finding, ok, warn or fail with what to do, and the exit code that follows.
import { KmsError } from "../../errors.js";
import { exitCodeOf } from "../exit-code.js";

export type Verdict = "ok" | "warn" | "fail";

interface Finding {
  readonly verdict: Verdict;
  readonly subject: string;
  readonly detail: string;
}

export class Report {
  readonly findings: Finding[] = [];
  exitCode = 0;

  add(verdict: Verdict, subject: string, detail: string): void {
    this.findings.push({ verdict, subject, detail });
  }

  /** The worst that was found decides the exit code. */
  fail(subject: string, thrown: unknown): void {
    const error = KmsError.from(thrown);
    this.add("fail", subject, error.message);
    this.exitCode = Math.max(this.exitCode, exitCodeOf(error.code), 1);
  }
}
