// The advice on EncryptionConfigurations that kube-apiserver accepts: each problem is found and comes with what to do.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { adviseOnEncryption, type EncryptionFacts } from "../../src/config/encryption-advice.js";
import { parseEncryptionConfiguration } from "../../src/config/encryption-configuration.js";

const SHIPPED = readFileSync(
  fileURLToPath(new URL("../../deploy/encryption-configuration.yaml", import.meta.url)),
  "utf8",
);
const FACTS: EncryptionFacts = {
  socket: { path: "/run/kms-pkcs11/kms.sock", abstract: false },
  requestTimeoutMs: 2_000,
  p99Ms: 4,
  stored: undefined,
};

/** Returns one line per piece of advice: "<verdict>: <text>". */
const advise = (text: string, facts: Partial<EncryptionFacts> = {}): string[] =>
  adviseOnEncryption(parseEncryptionConfiguration(Buffer.from(text), "enc.yaml"), { ...FACTS, ...facts }).map(
    (one) => `${one.verdict}: ${one.text}`,
  );

const NOT_ENCRYPTED = /^warn: not encrypted by kms: configmaps and custom resources; .*"\*\.\*"/;
const HAS_IDENTITY = /^ok: secrets: identity is in the list, which is right until every object is encrypted/;
const SERVES = /^ok: the plugin serves at unix:\/\/\/run\/kms-pkcs11\/kms\.sock$/;

it("the shipped configuration has no fault beyond resources that it does not encrypt", () => {
  expect(advise(SHIPPED)).toEqual(
    [SERVES, HAS_IDENTITY, NOT_ENCRYPTED].map((text) => expect.stringMatching(text) as string),
  );
});

describe("advice on an EncryptionConfiguration", () => {
  const changed = (from: string | RegExp, to: string): string => SHIPPED.replace(from, to);
  const identityFirst = changed(/ +- kms:[^]*$/, "      - identity: {}\n");
  const second = `${SHIPPED}  - resources: [configmaps]
    providers: [{ kms: { apiVersion: v2, name: other, endpoint: "unix:///run/kms-pkcs11/kms.sock" } }]\n`;

  it.each<[string, string, RegExp, Partial<EncryptionFacts>?]>([
    ["kms is v1 by default", changed("apiVersion: v2", ""), /^fail: .*is v1.*add apiVersion: v2/],
    ["identity comes first", identityFirst, /^warn: secrets: identity comes first.*put kms first/],
    ["there is no kms provider", identityFirst, /^fail: no kms provider/],
    [
      "the timeout is below the token's 99th percentile",
      changed("timeout: 3s", "timeout: 100ms"),
      /^warn: .*100ms is below.*120\.0 ms; set/,
      { p99Ms: 120 },
    ],
    [
      "the timeout is below the plugin's own",
      changed("timeout: 3s", "timeout: 1s"),
      /^warn: .*1s is below the plugin's own.*hsm\.requestTimeout 2s/,
    ],
    [
      "no endpoint is the plugin's",
      changed("kms.sock", "old.sock"),
      /^warn: no kms provider uses unix:.*kms\.sock.*kms-pkcs11 at unix:.*old\.sock; correct/,
    ],
    ["secrets are not encrypted", changed("- secrets", "- configmaps"), /^warn: secrets are not encrypted/],
    ["two providers share a socket", second, /^warn: kms provider other is the second one/],
    [
      "a key in the file encrypts",
      changed(
        /- kms:[^]*$/,
        `- aescbc: { keys: [{ name: k, secret: ${Buffer.alloc(32).toString("base64")} }] }\n`,
      ),
      /^warn: secrets: aescbc comes first.*put kms first/,
    ],
  ])("the EncryptionConfiguration check warns or fails if %s", (_what, text, message, facts = {}) => {
    expect(advise(text, facts)).toContainEqual(expect.stringMatching(message));
  });
});

describe("advice that uses the objects in etcd", () => {
  const kms = { resource: "secrets", prefix: "k8s:enc:kms:v2:kms-pkcs11:", objects: 5 };
  const clear = { resource: "secrets", prefix: "", objects: 3 };

  it("the advice says whether identity is still needed", () => {
    expect(advise(SHIPPED, { stored: [kms, clear] })).toContainEqual(
      expect.stringMatching(/^ok: .*needed: 3 objects/),
    );
    expect(advise(SHIPPED, { stored: [kms, { ...clear, resource: "pods" }] })).toContainEqual(
      expect.stringMatching(/^warn: .*no object is in clear any more.*remove identity/),
    );
  });

  it("the advice fails if a renamed provider would make objects unreadable", () => {
    const renamed = SHIPPED.replace(/^( +name:) kms-pkcs11/m, "$1 hsm");
    expect(advise(renamed, { stored: [kms] })).toContainEqual(
      expect.stringMatching(
        /^fail: 5 objects of secrets are stored under k8s:enc:kms:v2:kms-pkcs11:.*the name it had then/,
      ),
    );
    expect(advise(SHIPPED, { stored: [kms] }).join("\n")).not.toContain("fail");
  });
});
