// A KEK of two keys whose labels are changed one after the other: what an interruption leaves, and how the next attempt
// completes the change. Without both keys under one label, nothing that the KEK encrypted could be decrypted.

import { beforeAll, describe, expect, it } from "vitest";

import { PATIENT_CALLER } from "../../src/hsm/port.js";
import { useOpenedTokens } from "../support/opened-tokens.js";
import { pkcs11Tool } from "../support/softhsm.js";
import { useToken } from "../support/token-fixture.js";
import type { OpenedToken } from "../support/token-hsm.js";

const COPYING = "read-only-attributes";

const made = useToken({ faults: [] });
const openToken = useOpenedTokens();

const open = (objectName: string): OpenedToken["hsm"] => openToken(made.fault, { objectName }).hsm;

const STOPS = {
  "between the copies of its keys": [COPYING, "C_CopyObject rv 0x30 skip=1"],
  "between the destructions of the originals": [COPYING, "C_DestroyObject rv 0x30 skip=1"],
  "between two changes in place": ["C_SetAttributeValue rv 0x30 skip=1"],
} as const;

describe.each([
  { mechanism: "aes-cbc-hmac", id: 7, name: "pair", type: "secrkey", stops: Object.entries(STOPS) },
  // The kinds differ in how halves are recognised, and an interruption between copies leaves none.
  { mechanism: "rsa-oaep", id: 9, name: "rsa", type: "privkey", stops: Object.entries(STOPS).slice(1) },
] as const)("a KEK for $mechanism", ({ mechanism, id, name, type, stops }) => {
  let keyId: string;

  beforeAll(async () => {
    // The labels of keys that the plugin makes cannot be changed; those of other tools' keys can.
    made.fault.set("refuse-attribute 0x170 0x12");
    ({ keyId } = await open(name).generate({ label: name, ckaId: "0a".repeat(16), kind: "auto", mechanism }));
  });

  it.each(stops)("a KEK is complete after a change of its label that stopped %s", async (when, rules) => {
    const label = `${name}@2026010${Object.keys(STOPS).indexOf(when) + 1}T000000Z`;
    const copies = rules[0] === COPYING;
    const request = { keyId, mechanism: id, aad: Buffer.alloc(1) };
    made.fault.clear();
    const before = open(name);
    const body = await before.encrypt({ ...request, data: Buffer.alloc(32, 7) }, PATIENT_CALLER);
    made.fault.set(...rules);
    await expect(before.relabel(keyId, label)).rejects.toThrow();
    made.fault.set(...(copies ? [COPYING] : []));
    const after = open(name);
    if (copies) expect((await after.listKeks()).map((one) => one.keyId)).toContain(keyId);
    expect(await after.relabel(keyId, label)).toMatchObject({ keyId, label });
    expect(await after.decrypt({ ...request, data: body }, PATIENT_CALLER)).toEqual(Buffer.alloc(32, 7));
    expect(await after.listKeks()).toMatchObject([{ keyId, label }]);
    const objects = pkcs11Tool(made.token, "--list-objects", "--type", type);
    expect(objects.match(new RegExp(`label: +${name}\\b`, "g"))).toHaveLength(2);
  });
});
