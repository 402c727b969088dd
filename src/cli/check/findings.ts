// The findings of `kms-pkcs11 check`, in groups, and the exit code that follows from them.
import { KmsError } from "../../errors.js";
import { EXIT_NO, exitCodeOf } from "../exit-code.js";
import type { CheckOutput } from "../output-schema/plugin.js";
import { formatTable } from "../table.js";

export type Finding = CheckOutput["findings"][number];
export type Verdict = Finding["verdict"];

/** In the order of the output. A subject that no group lists is a key. */
const GROUPS: readonly (readonly [name: string, subjects: readonly string[]])[] = [
  ["Configuration", ["config"]],
  ["Files and sockets", ["user", "state", "audit", "socket", "http", "apiserver"]],
  ["Token", ["module", "token", "PIN", "rights"]],
  ["Keys", []],
  ["Cluster", ["encryption"]],
];
const KEYS = "Keys";

/** Collects findings; each is reported once. */
export class Report {
  readonly #findings: Finding[] = [];
  /** The first of the failures that have the highest exit code. */
  failure: KmsError | undefined;
  exitCode = 0;

  /** Adds a finding unless another one says the same, whatever its subject. */
  add(verdict: Verdict, subject: string, detail: string): void {
    const isKnown = (one: Finding): boolean =>
      one.detail === detail && (one.subject === subject || one.verdict !== "ok");
    if (this.#findings.some(isKnown)) return;
    const group = GROUPS.find(([, subjects]) => subjects.includes(subject))?.[0] ?? KEYS;
    this.#findings.push({ group, verdict, subject, detail });
  }

  /** Adds a failure; the highest exit code of all failures counts. */
  fail(subject: string, thrown: unknown): void {
    const error = KmsError.from(thrown);
    this.add("fail", subject, error.message);
    const exitCode = Math.max(exitCodeOf(error.code), EXIT_NO);
    if (exitCode <= this.exitCode) return;
    this.failure = error;
    this.exitCode = exitCode;
  }

  /** Runs `work`; adds a failure if it throws. Returns whether it succeeded. */
  async attempt(subject: string, work: () => void | Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      this.fail(subject, error);
      return false;
    }
  }

  /** In the order of the groups. */
  get findings(): Finding[] {
    return GROUPS.flatMap(([name]) => this.#findings.filter(({ group }) => group === name));
  }

  get counts(): Readonly<Record<Verdict, number>> {
    const count = (wanted: Verdict): number =>
      this.#findings.filter(({ verdict }) => verdict === wanted).length;
    return { ok: count("ok"), warn: count("warn"), fail: count("fail") };
  }

  /** Returns the findings as a table for each group, and a line that sums them up. */
  describe(): string {
    const width = Math.max(...this.#findings.map(({ subject }) => subject.length));
    const tables = GROUPS.flatMap(([name]) => {
      const rows = this.#findings
        .filter(({ group }) => group === name)
        .map(({ verdict, subject, detail }) => [
          verdict.padEnd(4),
          subject.padEnd(width),
          detail.split("\n"),
        ]);
      return rows.length === 0 ? [] : [`${name}\n${formatTable(["", "", ""], rows).trimStart()}\n`];
    });
    return [...tables, this.#summary()].join("\n");
  }

  #summary(): string {
    const { ok, warn, fail } = this.counts;
    const counted = `${ok} ok, ${plural(warn, "warning")}, ${plural(fail, "failure")}`;
    if (fail > 0) return `${counted}: correct what failed, then run this again`;
    return warn > 0
      ? `${counted}: the plugin can serve; read the warnings`
      : `${counted}: the plugin can serve`;
  }
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
