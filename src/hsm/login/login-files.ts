// Stores the records of logins in the state directory, so that neither a restart nor another process spends another
// PIN attempt. The files hold digests of token names, metadata of PIN sources, dates, and 10 bits of each refused PIN.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { KmsError } from "../../errors.js";
import type { LoginStores, LoginStore, PinRecord, PinRecords } from "./login-record.js";
import { makePrivateFolder } from "../../files/private-folder.js";
import { takeProcessLock, type HeldLock } from "../../files/process-lock.js";
import { readStateFile, writeStateFile } from "../../files/state-file.js";

const REFUSED = "pin-refused.json";
const ACCEPTED = "pin-accepted.json";
const VERSION = 1;
/** A file is written in milliseconds; a disk may be slow. */
const WRITE_PATIENCE_MS = 10_000;

type Tokens = Readonly<Record<string, PinRecords | undefined>>;

/**
 * Returns stores in the state directory, or in memory if none is configured.
 * @param patienceMs how long to wait for another process that logs in to the same token
 */
export function loginStores(directory: string | undefined, patienceMs: number): LoginStores {
  if (directory === undefined) {
    return {
      refused: new VolatileLoginStore(),
      accepted: new VolatileLoginStore(),
      exclusively: (_token, work) => work(),
    };
  }
  return {
    refused: new FileLoginStore(directory, REFUSED),
    accepted: new FileLoginStore(directory, ACCEPTED),
    exclusively: (token, work) => exclusively(directory, { token, patienceMs }, work),
  };
}

async function exclusively(
  folder: string,
  { token, patienceMs }: { readonly token: string; readonly patienceMs: number },
  work: (unlocked?: unknown) => Promise<void>,
): Promise<void> {
  let lock: HeldLock;
  try {
    makePrivateFolder(folder);
    lock = await takeProcessLock({ folder, name: `pin-${token}`, doing: "logging in", patienceMs });
  } catch (error) {
    if (error instanceof KmsError) throw error;
    await work(error);
    return;
  }
  try {
    await work();
  } finally {
    lock.release();
  }
}

class VolatileLoginStore implements LoginStore {
  readonly path = undefined;
  readonly #records = new Map<string, PinRecords>();

  load(token: string): PinRecords {
    return this.#records.get(token) ?? [];
  }

  save(token: string, records: PinRecords): Promise<void> {
    this.#records.set(token, records);
    return Promise.resolve();
  }

  clear(): void {
    this.#records.clear();
  }
}

class FileLoginStore implements LoginStore {
  readonly path: string;
  readonly #folder: string;
  readonly #file: string;

  /** @param folder the state directory; created with mode 0700 when it is first needed */
  constructor(folder: string, file: string) {
    this.path = join(folder, file);
    this.#folder = folder;
    this.#file = file;
  }

  load(token: string): PinRecords {
    return this.#readAll()[token] ?? [];
  }

  async save(token: string, records: PinRecords): Promise<void> {
    if (records.length === 0 && this.load(token).length === 0) return;
    makePrivateFolder(this.#folder);
    const lock = { folder: this.#folder, name: this.#file, doing: "writing", patienceMs: WRITE_PATIENCE_MS };
    const held = await takeProcessLock(lock);
    try {
      const others = Object.entries(this.#readAll()).filter(([name]) => name !== token);
      const tokens = Object.fromEntries(records.length === 0 ? others : [...others, [token, records]]);
      writeStateFile(this.path, { version: VERSION, tokens });
    } finally {
      held.release();
    }
  }

  clear(): void {
    rmSync(this.path, { force: true });
  }

  /** Returns no records if the file does not exist. @throws Error if it cannot be read or is damaged */
  #readAll(): Tokens {
    try {
      return tokensOf(readStateFile(this.path));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
      throw error;
    }
  }
}

/** Returns the records of each token in a stored document. @throws Error */
function tokensOf(stored: unknown): Tokens {
  if (!isMapping(stored)) throw new Error("is damaged");
  if (!("version" in stored)) return withoutVersion(stored);
  if (stored["version"] !== VERSION || !isMapping(stored["tokens"])) {
    throw new Error("was written by a newer version");
  }
  const tokens = Object.entries(stored["tokens"]);
  if (!tokens.every(([, records]) => Array.isArray(records) && records.every(isRecord))) {
    throw new Error("is damaged");
  }
  return stored["tokens"] as Tokens;
}

/** Converts the format without a version, which had one record per token. */
function withoutVersion(stored: object): Tokens {
  return Object.fromEntries(
    Object.entries(stored).map(([token, record]) => {
      const { stamp, at } = (record ?? {}) as Partial<PinRecord>;
      const old: unknown = { ...record, id: `${String(at)} ${String(stamp)}`, source: "" };
      if (!isRecord(old)) throw new Error("is damaged");
      return [token, [old]];
    }),
  );
}

function isRecord(value: unknown): value is PinRecord {
  if (!isMapping(value)) return false;
  const texts = ["id", "source", "stamp", "reason", "at"].every((name) => typeof value[name] === "string");
  const numbers = ["mark", "unanswered"].every((name) =>
    ["number", "undefined"].includes(typeof value[name]),
  );
  return texts && numbers;
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
