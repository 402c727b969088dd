// What tests of the HSM layer share: one token per suite (SoftHSM, or another library's) behind the fault module, with
// a KEK, and token hosts that are ended after each test, or shared by tests that do not harm them.

import { afterAll, afterEach, beforeAll, inject } from "vitest";

import { KmsError } from "../../src/errors.js";
import { PATIENT_CALLER, type Caller } from "../../src/hsm/port.js";
import type { KekKind } from "../../src/hsm/mechanisms.js";
import { FaultModule } from "./fault-module.js";
import { createSoftHsm, createSoftHsmWithKek } from "./softhsm.js";
import type { TestToken } from "./token.js";
import { openToken, type OpenedToken, type OpenOptions } from "./token-hsm.js";
import { waitFor } from "./wait.js";

export const PLAINTEXT = Buffer.from("a DEK seed of thirty-two bytes!!");
const AAD = Buffer.from("associated data");
const LIMIT_MS = 40_000;

/** Ids of the mechanism table. */
const MECHANISM = { aes: 1, hmac: 5 } as const;

export interface FaultyToken {
  readonly fault: FaultModule;
  readonly keyId: string;
  /** Opens the token without waiting for anything to be ready. */
  open(options?: OpenOptions): OpenedToken;
  /** Opens the token and waits until every host is ready and has answered. */
  start(options?: OpenOptions): Promise<OpenedToken>;
  /** As `start`, but keeps using the hosts of the last test that called it with these options, if all still run. */
  share(options?: OpenOptions): Promise<OpenedToken>;
  encrypt(token: OpenedToken, caller?: Caller): Promise<Buffer>;
  decrypt(token: OpenedToken, body: Buffer): Promise<Buffer>;
  /** Waits for a round trip that returns the same text. */
  recovers(token: OpenedToken): Promise<void>;
  /** Waits until requests fail because of the PIN, with an error that contains `text`. */
  refusesPin(token: OpenedToken, text: string): Promise<void>;
}

export const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "done",
    (error: unknown) => KmsError.from(error).code,
  );

/**
 * Sets up the token before the tests, and ends its hosts after each test.
 * @param kind the kind of the KEK, which is used with AES-GCM or HMAC-KDF
 * @param create makes the token behind the fault module, if not SoftHSM
 */
export function useFaultyToken(
  kind: Extract<KekKind, "aes" | "hmac"> = "aes",
  create?: () => TestToken,
): FaultyToken {
  let opened: OpenedToken[] = [];
  /** The hosts that `share` has started; they outlive the test. */
  let shared: { readonly by: string; readonly one: OpenedToken } | undefined;
  /** Ends the shared hosts, so that they take no part in what other hosts do. */
  const endShared = async (): Promise<void> => {
    const ending = shared?.one.hsm.stop(200);
    shared = undefined;
    await ending;
  };
  const made: { behind?: TestToken; fault?: FaultModule; keyId?: string } = {};
  const need = <T>(value: T | undefined): T => {
    if (value === undefined) throw new Error("only inside a test");
    return value;
  };
  const request = (data: Uint8Array) => ({
    keyId: need(made.keyId),
    mechanism: MECHANISM[kind],
    aad: AAD,
    data,
  });
  const token: FaultyToken = {
    get fault() {
      return need(made.fault);
    },
    get keyId() {
      return need(made.keyId);
    },
    open(options = {}) {
      const one = openToken(token.fault, { requestTimeoutMs: 400, startTimeoutMs: 10_000, ...options });
      opened.push(one);
      return one;
    },
    async start(options = {}) {
      await endShared();
      const one = token.open(options);
      const hosts = options.hosts ?? 1;
      await waitFor(() => one.hsm.readyHosts === hosts, { what: "ready hosts", timeoutMs: LIMIT_MS });
      await token.recovers(one);
      return one;
    },
    async share(options = {}) {
      const by = JSON.stringify(options);
      if (shared?.by === by) return shared.one;
      const one = await token.start(options);
      opened = opened.filter((other) => other !== one);
      shared = { by, one };
      return one;
    },
    encrypt: ({ hsm }, caller = PATIENT_CALLER) => hsm.encrypt(request(PLAINTEXT), caller),
    decrypt: ({ hsm }, body) => hsm.decrypt(request(body), PATIENT_CALLER),
    async recovers(one) {
      const trip = async (): Promise<boolean> =>
        (await token.decrypt(one, await token.encrypt(one))).equals(PLAINTEXT);
      await waitFor(trip, { what: "a round trip", timeoutMs: LIMIT_MS, intervalMs: 20 });
    },
    async refusesPin(one, text) {
      const refusal = (): Promise<boolean> =>
        token.encrypt(one).then(
          () => false,
          (error: unknown) =>
            error instanceof KmsError && error.code === "PIN_REFUSED" && error.message.includes(text),
        );
      await waitFor(refusal, { what: `a refusal that says "${text}"`, timeoutMs: LIMIT_MS });
    },
  };

  beforeAll(async () => {
    if (kind === "aes" && create === undefined) {
      made.behind = createSoftHsmWithKek();
      made.fault = new FaultModule(made.behind);
      made.keyId = inject("kekToken").keyId;
      return;
    }
    made.behind = (create ?? createSoftHsm)();
    made.fault = new FaultModule(made.behind);
    const { hsm } = openToken(made.fault);
    const label = "kms-kek@20260101T000000Z";
    made.keyId = (await hsm.generate({ label, ckaId: "0a".repeat(16), kind })).keyId;
    await hsm.stop(500);
  });
  afterEach(async () => {
    made.fault?.clear();
    await Promise.all(opened.map(({ hsm }) => hsm.stop(200)));
    opened = [];
    if (shared !== undefined && shared.one.ended.length > 0) await endShared();
  });
  afterAll(async () => {
    await endShared();
    made.fault?.remove();
    made.behind?.remove();
  });
  return token;
}
