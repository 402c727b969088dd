// An audit log in its own folder, with a writer and functions that tamper with its files.

import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { afterEach, beforeEach } from "vitest";

import type { AuditEvent } from "../../src/audit/line.js";
import { verifyAudit, type AuditReport } from "../../src/audit/verify.js";
import { AuditWriter } from "../../src/audit/writer.js";
import { makeFolder } from "./token.js";

/** Returns the event of a Decrypt with this uid. */
export const requestOf = (uid: string): AuditEvent => ({
  event: "request",
  operation: "Decrypt",
  uid,
  keyId: "k",
  outcome: "OK",
  ms: 0.25,
  peer: "connection 1",
});

export class AuditFiles {
  #folder = "";

  get folder(): string {
    return this.#folder;
  }

  get file(): string {
    return join(this.#folder, "log", "audit.log");
  }

  get keyFile(): string {
    return join(this.#folder, "state", "audit.key");
  }

  /** Begins another log in another folder. */
  create(): void {
    this.#folder = makeFolder("audit");
  }

  writer(maxBytes = 1e6, keep = 3): AuditWriter {
    return new AuditWriter({ file: this.file, keyFile: this.keyFile, maxBytes, keep });
  }

  /** Appends lines one by one; their uids count from `from`. */
  async append(writer: AuditWriter, from: number, count: number): Promise<void> {
    for (let at = from; at < from + count; at++) {
      await writer.append([{ time: Date.UTC(2026, 0, 1), event: requestOf(String(at)) }]);
    }
  }

  verify(): Promise<AuditReport> {
    return verifyAudit({ file: this.file, keyFile: this.keyFile });
  }

  /** Returns the problems that a verification finds, each with its line's number. */
  async problems(): Promise<string[]> {
    return (await this.verify()).problems.map(({ line, problem }) => `${line}: ${problem}`);
  }

  lines(path = this.file): string[] {
    return readFileSync(path, "utf8").trimEnd().split("\n");
  }

  rewrite(lines: readonly string[]): void {
    writeFileSync(this.file, lines.map((line) => `${line}\n`).join(""));
  }

  /** Returns the names of the rotated files, the oldest first. */
  rotatedNames(): string[] {
    return readdirSync(dirname(this.file))
      .filter((name) => /\.\d+$/.test(name))
      .sort();
  }

  remove(): void {
    rmSync(this.folder, { recursive: true });
  }
}

/** Begins an empty log before each test and removes it afterwards. */
export function useAuditFiles(): AuditFiles {
  const log = new AuditFiles();
  beforeEach(() => {
    log.create();
  });
  afterEach(() => {
    log.remove();
  });
  return log;
}
