// Reads an audit log from its oldest file to its last line and finds every line that was changed, removed, moved, or
// added without the key. Changes nothing and takes no lock: it reads the head first and opens every file before it
// reads one, so that a plugin that is writing causes no false alarm.
import type { KeyObject } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { readAuditKey, readHead, type AuditHead } from "./key.js";
import { MAX_LINE_BYTES, NO_MAC, verifyLine, type AuditLine } from "./line.js";
import { openAll } from "./open-files.js";

/** A problem with one line or one file. */
export interface AuditProblem {
  readonly file: string;
  /** Counted from 1; 0 if the problem concerns the whole file. */
  readonly line: number;
  readonly problem: string;
}

/** The result of a verification; the log is intact if `problems` is empty. */
export interface AuditReport {
  readonly files: readonly string[];
  readonly lines: number;
  readonly first: { readonly seq: number; readonly time: string } | null;
  readonly last: { readonly seq: number; readonly time: string } | null;
  readonly problems: readonly AuditProblem[];
  /** Findings that do not indicate a change, such as lost events. */
  readonly remarks: readonly AuditProblem[];
}

const NEWLINE = 0x0a;
/** Maximum number of problems, and of remarks, in a report. */
const MAX_PROBLEMS = 1_000;

/** Receives what a verification reads. */
export interface AuditObserver {
  /** Called with the number of bytes read so far and of all bytes. */
  readonly onBytes?: (done: number, total: number) => void;
  /** Called with each line that verifies, and its bytes without the line feed, in their order. */
  readonly onLine?: (line: AuditLine, bytes: Buffer) => void;
}

/**
 * Verifies an audit log.
 * @throws KmsError CONFIG_INVALID for an unusable key; NodeJS.ErrnoException if a file cannot be read
 */
export async function verifyAudit(
  { file, keyFile }: { readonly file: string; readonly keyFile: string },
  { onBytes, onLine }: AuditObserver = {},
): Promise<AuditReport> {
  const key = await readAuditKey(keyFile);
  const head = await readHead(keyFile);
  const opened = await openAll(file);
  try {
    const sizes = await Promise.all(opened.map(async ({ handle }) => (await handle.stat()).size));
    const total = sizes.reduce((sum, size) => sum + size, 0);
    const chain = new ChainVerifier(key, head);
    let done = 0;
    for (const { path, handle } of opened) {
      chain.beginFile(path);
      for await (const { bytes, whole } of linesOf(handle)) {
        const line = chain.read(bytes, whole);
        if (line !== undefined) onLine?.(line, bytes);
        done += bytes.length + 1;
        onBytes?.(Math.min(done, total), total);
      }
    }
    return chain.report(file);
  } finally {
    for (const { handle } of opened) await handle.close();
  }
}

interface RawLine {
  readonly bytes: Buffer;
  /** Whether it ends with a line feed. */
  readonly whole: boolean;
}

async function* linesOf(handle: FileHandle): AsyncGenerator<RawLine> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of handle.createReadStream({ autoClose: false }) as AsyncIterable<Buffer>) {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let start = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
      yield { bytes: bytes.subarray(start, end), whole: true };
      start = end + 1;
    }
    // Text longer than any line is cut: its beginning suffices to show that it does not verify.
    rest = bytes.subarray(start, start + MAX_LINE_BYTES);
  }
  if (rest.length > 0) yield { bytes: rest, whole: false };
}

class ChainVerifier {
  readonly #key: KeyObject;
  readonly #head: AuditHead | undefined;
  readonly #files: string[] = [];
  readonly #problems: AuditProblem[] = [];
  readonly #remarks: AuditProblem[] = [];
  #line = 0;
  #lines = 0;
  #first: AuditLine | undefined;
  /** Its MAC is undefined if the line did not verify. */
  #before: { readonly seq: number; readonly mac: string | undefined } | undefined;
  #last: AuditLine | undefined;
  #oldestRecorded: number | undefined;
  #headSeen = false;

  constructor(key: KeyObject, head: AuditHead | undefined) {
    this.#key = key;
    this.#head = head;
  }

  beginFile(path: string): void {
    this.#files.push(path);
    this.#line = 0;
  }

  /** Returns the line if it verifies. */
  read(bytes: Buffer, whole: boolean): AuditLine | undefined {
    this.#line += 1;
    if (!whole) {
      this.#remark("is incomplete: after a crash, or because it is being written");
      return undefined;
    }
    this.#lines += 1;
    const line = verifyLine(bytes, this.#key);
    if (line === undefined) {
      this.#problem("was changed, or written with another key");
      this.#before = this.#before && { seq: this.#before.seq + 1, mac: undefined };
      return undefined;
    }
    this.#link(line);
    this.#note(line);
    this.#first ??= line;
    this.#before = this.#last = line;
    if (line.seq === this.#head?.seq) this.#headSeen = line.mac === this.#head.mac;
    return line;
  }

  report(file: string): AuditReport {
    const head = this.#head;
    this.#line = 0;
    const atEnd = (problem: string): void => void this.#problems.push({ file, line: 0, problem });
    if (head === undefined) {
      this.#remark("its head is missing, so a removed end cannot be detected");
    } else if ((this.#last?.seq ?? 0) < head.seq) {
      atEnd(`ends at number ${this.#last?.seq ?? 0}, but ${head.seq} was written: its end was removed`);
    } else if (!this.#headSeen) atEnd(`number ${head.seq} is not the line that was written`);
    // The head is more reliable than the log's own record of its beginning, which its writer took from the files.
    const oldest = head?.oldest ?? this.#oldestRecorded ?? 1;
    if (this.#first !== undefined && this.#first.seq > oldest) {
      atEnd(`begins at number ${this.#first.seq} instead of ${oldest}: its beginning was removed`);
    }
    return {
      files: this.#files,
      lines: this.#lines,
      first: placeOf(this.#first),
      last: placeOf(this.#last),
      problems: this.#problems,
      remarks: this.#remarks,
    };
  }

  #link({ seq, prev, fields }: AuditLine): void {
    const before = this.#before;
    if (fields["event"] === "restarted") {
      this.#problem(`a new chain begins here: ${String(fields["reason"])}`);
    } else if (before === undefined) {
      if (seq === 1 && prev !== NO_MAC) this.#problem("is the first line, but refers to a line before it");
    } else if (seq > before.seq + 1) {
      const missing = seq - before.seq - 1;
      this.#problem(`${missing} line${missing === 1 ? " is" : "s are"} missing before it (number ${seq})`);
    } else if (seq <= before.seq) {
      this.#problem(`number ${seq} follows number ${before.seq}: moved or repeated`);
    } else if (before.mac !== undefined && prev !== before.mac) {
      this.#problem("does not follow the line before it");
    }
  }

  #note({ fields }: AuditLine): void {
    const { event } = fields;
    if (event === "rotated" && typeof fields["oldest"] === "number") this.#oldestRecorded = fields["oldest"];
    if (event === "missing") {
      this.#problem(
        `numbers ${String(fields["first"])} to ${String(fields["last"])} were already missing when it was written`,
      );
    }
    if (event === "gap") {
      this.#remark(`${String(fields["lost"])} events were lost (${String(fields["reason"])})`);
    }
    if (event === "recovered") this.#remark("a crash left an incomplete line before it, which was removed");
  }

  #problem(problem: string): void {
    if (this.#problems.length < MAX_PROBLEMS) this.#problems.push(this.#at(problem));
  }

  #remark(problem: string): void {
    if (this.#remarks.length < MAX_PROBLEMS) this.#remarks.push(this.#at(problem));
  }

  #at(problem: string): AuditProblem {
    return { file: this.#files.at(-1) ?? "", line: this.#line, problem };
  }
}

function placeOf(line: AuditLine | undefined): { seq: number; time: string } | null {
  return line === undefined ? null : { seq: line.seq, time: String(line.fields["time"]) };
}
