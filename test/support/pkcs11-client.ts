// A child process that speaks PKCS#11 for a test, so that the test's own process loads no library: a function is
// sent there as text, run against the loaded module, and its result comes back as JSON. A library that hangs or
// crashes takes only that child.

import { fork, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";

import type * as pkcs11js from "pkcs11js";

import type { TestToken } from "./token.js";

const CHILD = fileURLToPath(new URL("pkcs11-child.mjs", import.meta.url));

/** What the child keeps from one function to the next, and its shorthands; pkcs11-child.mjs has the definitions. */
export interface Pkcs11State {
  slot: Buffer;
  session: Buffer;
  /** For a test to keep a second session, a key, and whatever else must outlive a function. */
  second: Buffer;
  key: Buffer;
  kept: unknown[];
  readonly load: () => void;
  readonly initialise: () => void;
  readonly openSession: () => void;
  readonly login: () => void;
  /** An AES-256 KEK on the token, or with other attributes, by number. */
  readonly makeKey: (attributes?: Readonly<Record<number, unknown>>) => Buffer;
  readonly gcm: (iv: Buffer, aad?: string, mechanism?: number) => pkcs11js.Mechanism;
  readonly encrypt: (key: Buffer, iv: Buffer, data: Buffer, mechanism?: number) => Buffer;
  readonly decrypt: (key: Buffer, iv: Buffer, data: Buffer, mechanism?: number) => Buffer;
  /** How many objects have that label. */
  readonly count: (label: string) => number;
}

/** What a function finds in the child. */
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

  /** `modulePath` is loaded and initialised by `open`, not yet here. */
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

  /**
   * Runs `body` in the child. It must refer to nothing but its two arguments; both it and its result travel as JSON.
   */
  run<R, A = undefined>(body: (scope: Pkcs11Scope, argument: A) => R, argument?: A): Promise<R> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    const id = this.#next++;
    return new Promise<R>((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve, reject });
      this.#child.send({ id, body: body.toString(), argument });
    });
  }

  /** The CKR code that `body` ends with; 0 when it ends without one. */
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

  /** How the child ended. */
  ended(): Promise<Pkcs11ClientError> {
    return this.#ended;
  }

  /** Lets the child end by itself, as `process.exit` would. */
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
