// A child process that calls PKCS#11 for a test, so that the test's own process loads no library: a function is sent to
// it as text, runs with the loaded module, and its result returns as JSON. A library that hangs or crashes affects only
// the child.

import { fork, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";

import type * as pkcs11js from "pkcs11js";

import type { TestToken } from "./token.js";

const CHILD = fileURLToPath(new URL("pkcs11-child.mjs", import.meta.url));

/** What the child keeps between functions, and its shorthands, which pkcs11-child.mjs defines. */
export interface Pkcs11State {
  slot: Buffer;
  session: Buffer;
  /** For a second session, a key, and any other value that must outlive a function. */
  second: Buffer;
  key: Buffer;
  kept: unknown[];
  readonly load: () => void;
  readonly initialise: () => void;
  readonly openSession: () => void;
  readonly login: () => void;
  /** Makes an AES-256 KEK on the token, or a key with other attributes, by number. */
  readonly makeKey: (attributes?: Readonly<Record<number, unknown>>) => Buffer;
  readonly gcm: (iv: Buffer, aad?: string, mechanism?: number) => pkcs11js.Mechanism;
  readonly encrypt: (key: Buffer, iv: Buffer, data: Buffer, mechanism?: number) => Buffer;
  readonly decrypt: (key: Buffer, iv: Buffer, data: Buffer, mechanism?: number) => Buffer;
  /** Returns the number of objects with that label. */
  readonly count: (label: string) => number;
}

/** What a function receives in the child. */
export interface Pkcs11Scope {
  readonly p11: typeof pkcs11js;
  readonly module: pkcs11js.PKCS11;
  readonly state: Pkcs11State;
}

/** An error of the module (`code` is the CKR number), or the end of the child (`signal`, `exitCode`). */
export class Pkcs11ClientError extends Error {
  override readonly name = "Pkcs11ClientError";
  readonly code: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
  readonly exitCode: number | undefined;

  constructor(
    message: string,
    details: { code?: number | null; signal?: NodeJS.Signals | null; exitCode?: number | null },
  ) {
    super(message);
    this.code = details.code ?? undefined;
    this.signal = details.signal ?? undefined;
    this.exitCode = details.exitCode ?? undefined;
  }
}

interface Answer {
  readonly id: number;
  readonly result?: unknown;
  readonly message?: string;
  readonly code?: number | null;
}

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Pkcs11ClientError): void;
}

export class Pkcs11Client {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  readonly #ended: Promise<Pkcs11ClientError>;
  #end: Pkcs11ClientError | undefined;
  #next = 0;

  /** @param token whose module `open` loads and initialises; the constructor does not */
  constructor(token: TestToken, options: { env?: Readonly<Record<string, string>> } = {}) {
    this.#child = fork(CHILD, [token.modulePath, token.moduleParameters ?? "", token.label, token.pin], {
      env: { ...process.env, ...token.env, ...options.env },
      execArgv: [],
    });
    this.#child.on("message", (answer: Answer) => {
      this.#answer(answer);
    });
    this.#ended = new Promise((resolve) => {
      this.#child.once("exit", (exitCode, signal) => {
        const error = new Pkcs11ClientError(`the child ended: ${String(signal ?? exitCode)}`, {
          signal,
          exitCode,
        });
        this.#end = error;
        for (const waiting of this.#waiting.values()) waiting.reject(error);
        this.#waiting.clear();
        resolve(error);
      });
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Loads the module, initialises it, finds the token's slot, opens a session and logs in. */
  open(): Promise<void> {
    return this.run(({ state }) => {
      state.load();
      state.initialise();
      state.openSession();
      state.login();
    });
  }

  /** Runs `body` in the child. It may refer to nothing but its two arguments; `body` and its result are serialised. */
  run<R, A = undefined>(body: (scope: Pkcs11Scope, argument: A) => R, argument?: A): Promise<R> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    const id = this.#next++;
    return new Promise<R>((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve, reject });
      this.#child.send({ id, body: body.toString(), argument });
    });
  }

  /** Returns the CKR code with which `body` fails; 0 if it does not fail. */
  async code<A = undefined>(
    body: (scope: Pkcs11Scope, argument: A) => unknown,
    argument?: A,
  ): Promise<number> {
    try {
      await this.run(body, argument);
      return 0;
    } catch (error) {
      if (error instanceof Pkcs11ClientError && error.code !== undefined) return error.code;
      throw error;
    }
  }

  /** Resolves with how the child ended. */
  ended(): Promise<Pkcs11ClientError> {
    return this.#ended;
  }

  /** Lets the child exit as `process.exit` does. */
  exit(): Promise<Pkcs11ClientError> {
    if (this.#end === undefined && this.#child.connected) this.#child.disconnect();
    return this.#ended;
  }

  kill(): Promise<Pkcs11ClientError> {
    this.#child.kill("SIGKILL");
    return this.#ended;
  }

  #answer(answer: Answer): void {
    const waiting = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if (answer.message === undefined) waiting?.resolve(answer.result);
    else waiting?.reject(new Pkcs11ClientError(answer.message, { code: answer.code ?? null }));
  }
}
