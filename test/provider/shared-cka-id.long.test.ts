// KEKs of several generations with one CKA_ID on a real token, as vendors' tools make them. One has lost its fingerprint, so
// that it may be the KEK of any key_id with that CKA_ID.

import { afterEach, expect, it } from "vitest";

import type { RequestContext } from "../../src/provider/kms.js";
import { RunningProvider } from "../../src/provider/running-provider.js";
import { useOpenedTokens } from "../support/opened-tokens.js";
import { Pkcs11Client } from "../support/pkcs11-client.js";
import { providerOptions } from "../support/provider-options.js";
import { useToken } from "../support/token-fixture.js";
import type { OpenedToken } from "../support/token-hsm.js";
import { waitFor } from "../support/wait.js";

const ID = "0a".repeat(16);
const SEED = Buffer.alloc(32, 7);
const made = useToken();
const openToken = useOpenedTokens();
let running: RunningProvider[] = [];

afterEach(() => {
  for (const one of running) one.stop();
  running = [];
});

const open = (): OpenedToken["hsm"] => openToken(made.token).hsm;
const context = (): RequestContext => ({ uid: "test", startedAt: performance.now(), cancelled: false });

/** Starts a provider that reads the token once, unless a request makes it read. */
async function start(): Promise<RunningProvider> {
  const one = new RunningProvider(
    providerOptions(open(), { intervalMs: 3_600_000, requestTimeoutMs: 20_000 }),
  );
  running.push(one);
  one.start();
  const isOk = (): boolean => {
    try {
      return one.provider.status().healthz === "ok";
    } catch {
      return false;
    }
  };
  await waitFor(isOk, { what: "an ok Status", timeoutMs: 60_000 });
  return one;
}

/** Makes a KEK that may only decrypt, so that the token computes no fingerprint with it. */
async function makeDecrypting(label: string): Promise<void> {
  const client = new Pkcs11Client(made.token);
  await client.open();
  await client.run(
    ({ p11, state }, { name, ckaId }) => {
      state.makeKey({
        [p11.CKA_LABEL]: name,
        [p11.CKA_ID]: Buffer.from(ckaId, "hex"),
        [p11.CKA_ENCRYPT]: false,
      });
    },
    { name: label, ckaId: ID },
  );
  await client.exit();
}

it("a KEK of another node is found although an older one may have had its key_id", async () => {
  const hsm = open();
  await makeDecrypting("kms-kek@20260101T000000Z");
  await hsm.generate({ label: "kms-kek@20260201T000000Z", ckaId: "0b".repeat(16), kind: "aes" });
  const reader = await start();
  expect(reader.keys().map(({ keyId }) => keyId)).toContain(`${ID}.n`);

  await hsm.generate({ label: "kms-kek@20260301T000000Z", ckaId: ID, kind: "aes" });
  const stored = await (await start()).provider.encrypt(SEED, context());
  expect(stored.keyId).toMatch(new RegExp(`^${ID}\\.c`));
  expect(Buffer.from(await reader.provider.decrypt(stored, context()))).toEqual(SEED);
});
