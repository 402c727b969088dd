// A rotation while another command makes a KEK for another activation: both stay, and the operator is warned.

import { expect, it } from "vitest";

import type { Token } from "../../src/admin/command-tokens.js";
import { rotateKek } from "../../src/admin/rotate-kek.js";
import { loadSettings } from "../../src/config/load.js";
import type { KekRecord } from "../../src/hsm/port.js";
import { labelOf } from "../../src/provider/kek-label.js";
import { kekRecord } from "../support/kek-record.js";
import { silentOperator } from "../support/operator.js";

const settings = loadSettings({
  flags: { key: "pkcs11:token=kms;object=kms-kek?module-path=/nowhere.so&pin-source=file:/nowhere" },
  env: {},
  serves: false,
});

it("'keys rotate' warns of a KEK for another activation that appears while it runs", async () => {
  const now = Date.now();
  const active = kekRecord("kms-kek", "01.c00");
  const other = kekRecord(labelOf("kms-kek", now + 60_000), "02.c00");
  let made: KekRecord | undefined;
  const hsm = {
    generate: ({ label }: { label: string }) => Promise.resolve((made = kekRecord(label, "03.c00"))),
    listKeksReloaded: () => Promise.resolve([active, other, ...(made === undefined ? [] : [made])]),
  } as unknown as Token["hsm"];
  const lines: string[] = [];

  const rotation = await rotateKek({
    settings,
    tokens: [{ name: "kms", hsm, records: [active], failure: undefined, openMs: 0 }],
    nodes: [],
    now,
    activation: now + 3_600_000,
    dryRun: false,
    wait: false,
    abortUnlessConverged: false,
    signal: new AbortController().signal,
    operator: silentOperator(lines),
  });

  expect(rotation.made?.keyId).toBe("03.c00");
  expect(lines).toEqual([
    expect.stringMatching(
      /^warning: "kms-kek@\w+" \(key_id 02\.c00\) appeared on the token while this command ran and becomes active at \S+, before the new KEK; .*keys destroy 02\.c00 --nodes/,
    ),
  ]);
});
