// What `keys rotate` reports if a rotation should have been aborted but could not be.

import { expect, it } from "vitest";

import type { Rotation } from "../../../src/admin/guarded-rotation.js";
import { reportRotation } from "../../../src/cli/keys/rotation-report.js";
import { ofCluster, parseNodeAddress } from "../../../src/config/node-address.js";
import { KmsError } from "../../../src/errors.js";
import { kekRecord } from "../../support/kek-record.js";

const ACTIVATION = Date.UTC(2026, 11, 1, 10);
const MADE = kekRecord("kms-kek@20261201T100000Z", "new");
const FAILURE = new KmsError("HSM_UNAVAILABLE", "away");
const ROTATION: Rotation = {
  plan: {
    label: MADE.label,
    activation: ACTIVATION,
    from: { record: kekRecord("kms-kek@20260101T000000Z", "old"), activation: Date.UTC(2026, 0, 1) },
    warnings: [],
  },
  made: MADE,
  readiness: [],
  converged: false,
  abort: {
    reason: "a node lacks it",
    tokens: [{ token: "pkcs11:token=a", outcome: "failed", error: "away" }],
    failure: FAILURE,
  },
};

it("a report of an aborted rotation names the remaining key and what to do in time", () => {
  let shown = "";
  const terminal = { out: (text: string) => (shown = text), err: () => undefined, isInteractive: false };
  const report = (): void => {
    reportRotation(ROTATION, "table", terminal);
  };
  expect(report).toThrow(
    expect.objectContaining({
      code: "HSM_UNAVAILABLE",
      message:
        "rotation aborted (a node lacks it), but new could not be destroyed (pkcs11:token=a: away); it becomes active " +
        "at 2026-12-01T10:00:00.000Z unless 'kms-pkcs11 keys destroy new --nodes ...' succeeds at least 10 s before that",
    }),
  );
  expect(shown).toMatch(/^active from +2026-12-01T10:00:00.000Z\nuntil then +old$/m);
});

it("a report of a rotation prints a command that cancels the KEK on the nodes that were given", () => {
  const nodes = ["http://127.0.0.1:8090", "ssh://root@cp-2"].map((one) => parseNodeAddress(one));
  const nextOf = (urls: readonly URL[]): string => {
    let said = "";
    const terminal = { out: () => undefined, err: (text: string) => (said = text), isInteractive: false };
    const readiness = urls.map(({ href }) => ({
      kind: "node" as const,
      name: href,
      state: "ready" as const,
      detail: "has proven it",
      clockAheadMs: 0,
    }));
    const { plan, made } = ROTATION;
    reportRotation({ plan, made, readiness, converged: true }, "table", terminal);
    return said;
  };
  expect(nextOf(nodes)).toContain(
    "'kms-pkcs11 rotation abort new --nodes http://127.0.0.1:8090,ssh://root@cp-2/127.0.0.1:8090' cancels",
  );
  const ofBlue = nextOf(nodes.map((url) => ofCluster(url, "blue")));
  const [, options = ""] = /rotation abort new ([^']*)'/.exec(ofBlue) ?? [];
  const [, cluster, addresses = ""] = /^--cluster (\w+) --nodes (.*)$/.exec(options) ?? [];
  // The command asks the same plugins for the same cluster.
  const again = addresses.split(",").map((one) => ofCluster(parseNodeAddress(one), cluster).href);
  expect(again).toEqual(nodes.map((url) => ofCluster(url, "blue").href));
});
