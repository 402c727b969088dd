// What root's commands take from the plugin's unit. scripts/e2e-node asks a real systemd.

import { expect, it } from "vitest";
import { parseUnit } from "../../src/admin/plugin-unit.js";

it("user, groups and variables of the plugin's unit are read, quoted values too", () => {
  const shown = [
    'Environment=SOFTHSM2_CONF=/etc/softhsm/softhsm2.conf "NAME=two words \\"quoted\\"" EMPTY=',
    "User=kms-pkcs11",
    "SupplementaryGroups=softhsm tss",
    "LoadState=loaded",
  ];
  expect(parseUnit(shown.join("\n"))).toEqual({
    user: "kms-pkcs11",
    groups: ["softhsm", "tss"],
    environment: { SOFTHSM2_CONF: "/etc/softhsm/softhsm2.conf", NAME: 'two words "quoted"', EMPTY: "" },
  });
});

it("nothing is read of a unit that does not exist", () => {
  expect(parseUnit("LoadState=not-found\nUser=\n")).toBeUndefined();
});
