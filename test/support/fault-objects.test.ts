// The attribute faults that the fault module emulates.

import { expect, test } from "vitest";

import { useFaultModule } from "./fault-fixture.js";
import type { Pkcs11Scope } from "./pkcs11-client.js";

const { fault, client } = useFaultModule();

const SESSION_KEY = { 1: false };
const make = ({ state }: Pkcs11Scope, attributes: Record<number, unknown>): void => {
  const made: Record<string, unknown> = {};
  for (const [type, value] of Object.entries(attributes)) {
    made[type] = Array.isArray(value) ? Buffer.from(value as number[]) : value;
  }
  state.key = state.makeKey(made);
};
const id = ({ module, state }: Pkcs11Scope): string => {
  const [attribute] = module.C_GetAttributeValue(state.session, state.key, [{ type: 0x102 }]);
  return (attribute?.value as Buffer).toString("hex");
};

test("id-limit refuses a longer CKA_ID and chooses one when none is given", async () => {
  const hsm = await client();
  fault().set("id-limit 2");
  expect(await hsm.code(make, { ...SESSION_KEY, 258: [1, 2, 3] })).toBe(0x13);
  expect(await hsm.code(make, { ...SESSION_KEY, 258: [1, 2] })).toBe(0);
  expect(await hsm.run(id)).toBe("0102");
  expect(await hsm.code(make, SESSION_KEY)).toBe(0);
  expect(await hsm.run(id)).toMatch(/^[0-9a-f]{4}$/);
});

test("label-limit refuses a longer CKA_LABEL", async () => {
  const hsm = await client();
  fault().set("label-limit 5");
  expect(await hsm.code(make, { ...SESSION_KEY, 3: "123456" })).toBe(0x13);
  expect(await hsm.code(make, { ...SESSION_KEY, 3: "12345" })).toBe(0);
});

test("no-attribute: refused in a template and in a search, unknown when read", async () => {
  const hsm = await client();
  await hsm.run(make, SESSION_KEY);
  const read = ({ module, state }: Pkcs11Scope, types: number[]): unknown =>
    module.C_GetAttributeValue(
      state.session,
      state.key,
      types.map((type) => ({ type })),
    );
  expect(await hsm.code(read, [0x103])).toBe(0);
  fault().set("no-attribute 0x103,0x90");
  expect(await hsm.code(read, [0x103])).toBe(0x12);
  expect(await hsm.code(read, [0x100])).toBe(0);
  expect(await hsm.code(make, { ...SESSION_KEY, 259: true })).toBe(0x12);
  const search = ({ module, state }: Pkcs11Scope): void => {
    module.C_FindObjectsInit(state.session, [{ type: 0x103, value: true }]);
  };
  expect(await hsm.code(search)).toBe(0x12);
});

test("read-only-attributes refuses every change", async () => {
  const hsm = await client();
  await hsm.run(make, SESSION_KEY);
  const rename = ({ module, state }: Pkcs11Scope): void => {
    module.C_SetAttributeValue(state.session, state.key, [{ type: 3, value: "new" }]);
  };
  expect(await hsm.code(rename)).toBe(0);
  fault().set("read-only-attributes");
  expect(await hsm.code(rename)).toBe(0x10);
});

test("foreign-objects shows secret keys of others in a search that names none", async () => {
  const hsm = await client();
  await hsm.run(make, { 3: "ours" });
  const labels = ({ module, state }: Pkcs11Scope, template: unknown[]): string[] => {
    module.C_FindObjectsInit(state.session, template as never);
    const found = module.C_FindObjects(state.session, 10).concat(module.C_FindObjects(state.session, 10));
    module.C_FindObjectsFinal(state.session);
    return found.map((object) => {
      const [label] = module.C_GetAttributeValue(state.session, object, [{ type: 3 }]);
      return (label?.value as Buffer).toString();
    });
  };
  fault().set("foreign-objects 3");
  const all = await hsm.run(labels, [{ type: 0, value: 4 }]);
  expect(all.slice(0, 3)).toEqual(["other-2", "other-1", "other-0"]);
  expect(all).toContain("ours");
  expect(await hsm.run(labels, [{ type: 3, value: "ours" }])).toEqual(["ours"]);
  fault().set("foreign-objects 3 0x5");
  expect(await hsm.code(labels, [{ type: 0, value: 4 }])).toBe(0x5);
});

test("store-at-load: a process sees only its own changes until it initialises again", async () => {
  fault().set("store-at-load");
  const [one, other] = [await client(), await client()];
  await one.run(make, { 3: "shared" });
  const count = ({ state }: Pkcs11Scope): number => state.count("shared");
  expect([await one.run(count), await other.run(count)]).toEqual([1, 0]);
  const later = await client();
  expect(await later.run(count)).toBe(1);
  await one.run(({ module, state }) => {
    module.C_DestroyObject(state.session, state.key);
  });
  expect([await one.run(count), await later.run(count), await (await client()).run(count)]).toEqual([
    0, 1, 0,
  ]);
});
