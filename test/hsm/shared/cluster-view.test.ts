// Whose turn a call takes on a token that clusters share, and under which key_ids a cluster's KEK decrypts.

import { expect, it } from "vitest";

import {
  BACKGROUND_CALLER,
  PATIENT_CALLER,
  PROOF_CALLER,
  type Caller,
  type Hsm,
} from "../../../src/hsm/port.js";
import { KekOwners } from "../../../src/hsm/shared/kek-owners.js";
import { SharedToken } from "../../../src/hsm/shared/shared-token.js";
import type { TokenHsm } from "../../../src/hsm/token-hsm.js";
import { SILENT } from "../../support/fake-hsm.js";
import { kekRecord } from "../../support/kek-record.js";

const KEY_ID = "01.c0123456789abcdef";
const REQUEST = { keyId: KEY_ID, mechanism: 1, aad: Buffer.alloc(0), data: Buffer.alloc(0) };

/**
 * Returns the views of clusters a, b and so on, one for each key_id, after they have read the token.
 * @param calls those of the token that the test makes
 */
async function viewsOf(
  keyIds: readonly string[],
  calls: Partial<Record<"encrypt" | "decrypt" | "probe", unknown>>,
  areSlow = false,
): Promise<Hsm[]> {
  const names = keyIds.map((_keyId, at) => "abc".charAt(at));
  const records = keyIds.map((keyId, at) => kekRecord(`kek-${names[at] ?? ""}`, keyId));
  const hsm = {
    ...calls,
    setKeks: () => undefined,
    listDatedKeks: () => Promise.resolve({ keks: records, beganAt: performance.now() }),
    lanes: { count: 1, areSlow },
  } as unknown as TokenHsm;
  const token = new SharedToken(hsm, new KekOwners(), SILENT);
  const views = names.map((name) => token.add(name, { objectName: `kek-${name}` }));
  for (const view of views) await view.listKeks();
  return views;
}

/** Returns the group that the dispatcher is given for a call. */
async function groupOf(caller: Caller): Promise<string | undefined> {
  const groups: (string | undefined)[] = [];
  const call = (_request: unknown, _caller: Caller, group?: string): Promise<Buffer> => {
    groups.push(group);
    return Promise.resolve(Buffer.alloc(0));
  };
  const [view] = await viewsOf([KEY_ID], { encrypt: call, decrypt: call });
  await view?.encrypt(REQUEST, caller);
  await view?.decrypt(REQUEST, caller);
  expect(groups[0]).toBe(groups[1]);
  return groups[0];
}

it("a request takes a turn of its cluster", async () => {
  expect(await groupOf({ cancelled: false, startedAt: performance.now() })).toBe("a");
});

it("a call for several requests of a cluster, as for a local KEK, takes a turn of the cluster", async () => {
  expect(await groupOf(PATIENT_CALLER)).toBe("a");
});

it("proofs of all clusters take one turn", async () => {
  expect(await groupOf(PROOF_CALLER)).toBe("proofs of all clusters");
});

it("background work, which uses idle lanes only, takes no cluster's turn", async () => {
  expect(await groupOf(BACKGROUND_CALLER)).toBe("");
});

it("with the only lane of a slow token, a trial of mechanisms and a proof do not overlap", async () => {
  let [running, most] = [0, 0];
  const call = async (): Promise<Buffer> => {
    most = Math.max(most, ++running);
    await new Promise(setImmediate);
    running--;
    return Buffer.alloc(0);
  };
  const [view] = await viewsOf([KEY_ID], { encrypt: call, probe: call }, true);
  await Promise.all([
    view?.probe(KEY_ID, "auto"),
    view?.encrypt(REQUEST, PROOF_CALLER),
    view?.probe(KEY_ID, "auto"),
  ]);
  expect(most).toBe(1);
});

it("a cluster decrypts under an earlier key_id of its own KEK, never of another cluster's", async () => {
  const id = "0a".repeat(16);
  const asked: string[] = [];
  const decrypt = ({ keyId }: { readonly keyId: string }): Promise<Buffer> => {
    asked.push(keyId);
    return Promise.resolve(Buffer.alloc(0));
  };
  const earlier = { ...REQUEST, keyId: `${id}.c${"1".repeat(32)}` };
  const [own, other] = await viewsOf([`${id}.n`, `${"0b".repeat(16)}.n`], { decrypt });
  await own?.decrypt(earlier, PATIENT_CALLER);
  expect(asked).toEqual([`${id}.n`]);
  await expect(other?.decrypt(earlier, PATIENT_CALLER)).rejects.toMatchObject({ code: "KEY_MISSING" });
  await expect(own?.encrypt(earlier, PATIENT_CALLER)).rejects.toMatchObject({ code: "KEY_MISSING" });
});
