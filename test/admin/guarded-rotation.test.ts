// A guarded rotation that has not converged: the KEK is destroyed in time, or not at all.

import { expect, it } from "vitest";

import { parseNodeAddresses } from "../../src/config/node-address.js";
import { requireTimeToAbort, guardRotation, type Rotation } from "../../src/admin/guarded-rotation.js";
import type { Token } from "../../src/admin/command-tokens.js";
import { loadSettings } from "../../src/config/load.js";
import { KmsError } from "../../src/errors.js";
import type { DestroyWindow } from "../../src/hsm/token-hsm.js";
import type { KekRecord } from "../../src/hsm/port.js";
import { labelOf } from "../../src/provider/kek-label.js";
import { freePort } from "../support/free-port.js";
import { silentOperator } from "../support/operator.js";
import { kekRecord } from "../support/kek-record.js";

const settings = loadSettings({
  flags: { key: "pkcs11:token=kms;object=kms-kek?module-path=/nowhere.so&pin-source=file:/nowhere" },
  env: {},
  serves: false,
});

interface Watched {
  readonly rotation: Rotation;
  readonly activation: number;
  readonly windows: readonly (DestroyWindow | undefined)[];
}

/** Guards a new KEK whose node does not answer, beginning `leftMs` before its activation. */
async function watch(leftMs: number, openMs: number, destroy: () => Promise<number>): Promise<Watched> {
  const windows: (DestroyWindow | undefined)[] = [];
  const activation = Math.ceil((Date.now() + leftMs) / 1000) * 1000;
  const made = kekRecord(labelOf("kms-kek", activation), "new");
  let kept: KekRecord[] = [made];
  const hsm = {
    listKeksReloaded: () => Promise.resolve(kept),
    destroy: async (_kek: KekRecord, window: DestroyWindow | undefined) => {
      windows.push(window);
      const objects = await destroy();
      kept = [];
      return objects;
    },
  } as unknown as Token["hsm"];
  const rotation = await guardRotation({
    settings,
    plan: {
      label: made.label,
      activation,
      from: { record: kekRecord("kms-kek", "old"), activation: -Infinity },
      warnings: [],
    },
    made,
    tokens: [{ name: "kms", hsm, records: [made], failure: undefined, openMs }],
    nodes: parseNodeAddresses([`http://127.0.0.1:${await freePort()}`]),
    abortUnlessConverged: true,
    signal: new AbortController().signal,
    operator: silentOperator(),
  });
  return { rotation, activation, windows };
}

it("a guarded rotation destroys a KEK up to 10 s before its instant, earlier on slow tokens", async () => {
  for (const [leftMs, openMs] of [
    [16_000, 0],
    [60_000, 45_000],
  ] as const) {
    const { rotation, activation, windows } = await watch(leftMs, openMs, () => Promise.resolve(1));
    expect(windows).toEqual([{ begunBy: activation - 10_000, endedBy: activation - 1_000 }]);
    expect(Date.now()).toBeLessThan(activation - 10_000 - openMs);
    expect(rotation).toMatchObject({ converged: false, abort: { tokens: [{ outcome: "done" }] } });
  }
});

it("a guarded rotation reports a KEK that the token was too slow to destroy", async () => {
  const late = new KmsError("TOKEN_REFUSED", "the token was too slow");
  const { rotation } = await watch(5_000, 0, () => Promise.reject(late));
  expect(rotation.abort).toMatchObject({
    tokens: [{ outcome: "failed", error: "the token was too slow; the token still holds new" }],
    failure: { code: "TOKEN_REFUSED" },
  });
});

it("a guarded rotation refuses an activation that leaves slow tokens no time to abort", () => {
  const tokens = (...openMs: number[]): Token[] => openMs.map((ms) => ({ openMs: ms }) as Token);
  const inSeconds = (seconds: number): number => Date.now() + seconds * 1_000;
  expect(() => {
    requireTimeToAbort(tokens(300, 300), inSeconds(22));
  }).not.toThrow();
  expect(() => {
    requireTimeToAbort(tokens(8_500), inSeconds(48));
  }).toThrow(/too slow to cancel the KEK .*nothing was made.* at least \d+ s ahead/);
  expect(() => {
    requireTimeToAbort(tokens(500, 8_500), inSeconds(25));
  }).toThrow(/too slow/);
});
