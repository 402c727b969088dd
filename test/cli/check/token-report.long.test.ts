// `check --token-report` on SoftHSM behind the fault module: what it reports, and that it leaves the token as it was.

import { spawn } from "node:child_process";

import { beforeAll, expect, it } from "vitest";

import type { TokenReport } from "../../../src/admin/token-report/report.js";
import { usePlugin } from "../../support/plugin-fixture.js";
import { createKek, kmsPkcs11, MAIN, type CommandResult } from "../../support/plugin-process.js";
import { pkcs11Tool } from "../../support/softhsm.js";
import { behaviourIn, rulesOf } from "../../support/token-report-replay.js";
import { tokenUri, writePinFile } from "../../support/token.js";
import { waitFor } from "../../support/wait.js";

/** RSA keys take seconds to make. */
const WITHOUT_RSA = "no-mechanism 0x0";
const TRIAL = "kms-pkcs11 trial";

/** Never started; only its configuration file is used. */
const kms = usePlugin(
  {},
  { token: { label: "prod-hsm-7", pin: "a-pin-7261", faults: [WITHOUT_RSA] }, start: false },
);
let before: string;

beforeAll(() => {
  createKek(kms.token);
  pkcs11Tool(kms.token, "--keygen", "--key-type", "AES:32", "--label", TRIAL);
  before = objects();
});

/** The objects on the token, as another tool lists them. */
function objects(): string {
  return pkcs11Tool(kms.token, "--list-objects");
}

const args = (uri: string, ...more: string[]): string[] => ["check", "--token-report", "--key", uri, ...more];
const run = (...more: string[]): CommandResult => {
  const result = kmsPkcs11(args(tokenUri(kms.fault, "kms-kek"), ...more), kms.fault.env);
  expect(result.stdout + result.stderr).not.toContain(kms.token.pin);
  return result;
};
const report = (...more: string[]): TokenReport =>
  JSON.parse(run("-o", "json", ...more).stdout) as TokenReport;
const failures = ({ findings }: TokenReport): string[] =>
  findings.filter(({ verdict }) => verdict === "fail").map(({ subject, detail }) => `${subject}: ${detail}`);

it("the token report reports what the token does, without naming it, and leaves it as it was", () => {
  const { code, stdout, stderr } = run("-o", "json");
  expect([code, stderr]).toEqual([0, expect.stringContaining(`begins with "${TRIAL} `)]);
  expect(stdout).not.toContain("prod-hsm-7");
  const made = JSON.parse(stdout) as TokenReport;
  expect(made).toMatchObject({
    schema: "kms-pkcs11.dev/token-report/v1",
    identity: "left out",
    login: { required: true, administrator: false, otherProcess: false, otherLoad: true },
    visibility: { made: "at once", destroyed: "at once", destroyedKey: "0x82 CKR_OBJECT_HANDLE_INVALID" },
    sessions: { readOnly: "ok", loginShared: true, oneMore: "ok", afterClosing: "ok" },
    failures: [],
    leftBehind: [],
  });
  const works = made.mechanisms.filter((one) => one.works).map(({ choice }) => choice);
  expect(works).toEqual(["aes-gcm", "hmac-kdf", "aes-kwp", "aes-cbc-hmac"]);
  expect(failures(made)).toEqual([]);
  expect(made.latencies.length).toBeGreaterThan(4);
  expect(objects()).toBe(before);
});

it("a replayed report gives the same findings", () => {
  kms.fault.set(
    WITHOUT_RSA,
    "refuse-attribute 0x1 0x13 0",
    "refuse-attribute 0x161 0x12",
    "unreadable-attribute 0x100 0x6",
    "id-limit 2",
    "label-limit 40",
    "session-limit 16",
    "refuse-mechanism 0x1087",
    "ignore-in-searches 0x3",
  );
  const reported = report();
  expect(reported.visibility.made).toBe("at once");
  kms.fault.set(...rulesOf(reported));
  expect(behaviourIn(report())).toEqual(behaviourIn(reported));
  expect(objects()).toBe(before);
});

it("a crash of the library under one mechanism is a warning, and leaves nothing behind", () => {
  kms.fault.set(WITHOUT_RSA, `C_SignInit abort skip=20 once=${kms.fault.path("crashed")}`);
  const made = report();
  expect(failures(made)).toEqual([]);
  const warned = made.findings.filter(({ subject, verdict }) => subject === "trial" && verdict === "warn");
  expect(warned).toMatchObject([
    { detail: expect.stringMatching(/^mechanism .*the token host ended/) as string },
  ]);
  expect(made.leftBehind).toEqual([]);
  expect(objects()).toBe(before);
});

it("Ctrl-C ends the report and removes its objects, even if a call hangs", async () => {
  kms.fault.set(WITHOUT_RSA, `C_SignInit hang skip=20 once=${kms.fault.path("hangs")}`, "log C_SignInit");
  const child = spawn(process.execPath, [MAIN, ...args(tokenUri(kms.fault, "kms-kek"))], {
    env: { ...process.env, ...kms.fault.env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let printed = "";
  child.stderr.on("data", (chunk: Buffer) => (printed += chunk.toString()));
  const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
  await waitFor(() => kms.fault.log().length >= 20, { what: "the call that hangs", timeoutMs: 50_000 });
  child.kill("SIGINT");
  expect([await ended, printed]).toEqual([130, expect.stringContaining("all trial objects were removed")]);
  expect(objects()).toBe(before);
});

it("the token report says which objects it could not remove", () => {
  kms.fault.set(WITHOUT_RSA, "C_DestroyObject rv 0x5");
  const { code, stdout } = run("-o", "json");
  const { leftBehind, findings } = JSON.parse(stdout) as TokenReport;
  expect([code, leftBehind]).toEqual([
    1,
    expect.arrayContaining([expect.stringMatching(/1 x secret key labelled "kms-pkcs11 trial .*0x5/)]),
  ]);
  expect(findings).toContainEqual(expect.objectContaining({ verdict: "fail", subject: "left behind" }));
  for (const text of leftBehind) {
    const [, count, label = ""] = /^(\d+) x secret key labelled "(.*?)"/.exec(text) ?? [];
    for (let at = 0; at < Number(count); at++) {
      pkcs11Tool(kms.token, "--delete-object", "--type", "secrkey", "--label", label);
    }
  }
  expect(objects()).toBe(before);
});

it("a wrong PIN costs one attempt", () => {
  const wrong = writePinFile(kms.fault.folder, "not-the-pin", "wrong");
  const calls = kms.fault.calls("C_Login");
  const uri = tokenUri(kms.fault, "kms-kek").replace(kms.token.pinFile, wrong);
  const { code, stderr } = kmsPkcs11(args(uri), kms.fault.env);
  expect([code, stderr]).toEqual([1, expect.stringContaining("CKR_PIN_INCORRECT")]);
  expect(kms.fault.calls("C_Login") - calls).toBe(1);
});

it("the token report uses the plugin's KEK if the token makes no keys; names it if asked to", () => {
  kms.fault.set(WITHOUT_RSA, "C_GenerateKey rv 0x54");
  const made = report("--with-identity");
  expect(made.identity).toMatchObject({ label: "prod-hsm-7", serial: expect.stringMatching(/./) as string });
  expect(made.usedExistingKek).toBe(true);
  expect(made.mechanisms.find(({ works }) => works)?.choice).toBe("aes-gcm");
  expect(failures(made)).toEqual([]);
  expect(objects()).toBe(before);
});

it("the token report makes keys with the administrator's login and uses the plugin's", () => {
  kms.fault.set(WITHOUT_RSA, "no-mechanism 0x1087", `role 0x1 user-of-keys-5512 ${kms.token.pin} 0x1B`);
  const pin = { file: writePinFile(kms.plugin.folder, "user-of-keys-5512", "serving") };
  kms.own.configure({ pin, admin: { file: kms.token.pinFile } });
  const config = ["check", "--token-report", "--config", kms.plugin.configFile, "-o", "json"];
  const { code, stdout } = kmsPkcs11(config, kms.fault.env);
  const made = JSON.parse(stdout) as TokenReport;
  expect([code, failures(made), made.login.administrator]).toEqual([0, [], true]);
  expect(made.rights.map(({ right, outcome }) => `${right}: ${outcome}`)).toContain("make keys: refused");
  expect(made.mechanisms.find(({ works }) => works)?.choice).toBe("hmac-kdf");
  expect(objects()).toBe(before);
});
