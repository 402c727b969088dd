// Advice on EncryptionConfigurations that kube-apiserver would take: what is warned of, and what to do about it.
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

/** One line a piece of advice. */
const advise = (text: string, facts: Partial<EncryptionFacts> = {}): string[] =>
  adviseOnEncryption(parseEncryptionConfiguration(Buffer.from(text), "enc.yaml"), { ...FACTS, ...facts }).map(
    (one) => `${one.verdict}: ${one.text}`,
  );

const LEFT_OUT = /^warn: left out: configmaps and custom resources; .*"\*\.\*"/;
const IN_PLACE = /^ok: secrets: identity is left in place: fine until all is rewritten/;
const SERVES = /^ok: the plugin serves at unix:\/\/\/run\/kms-pkcs11\/kms\.sock$/;

it("finds the shipped configuration fit for adopting the plugin", () => {
  expect(advise(SHIPPED)).toEqual(
    [SERVES, IN_PLACE, LEFT_OUT].map((text) => expect.stringMatching(text) as string),
  );
});

describe("warns, and says what to do, when", () => {
  const changed = (from: string | RegExp, to: string): string => SHIPPED.replace(from, to);
  const identityFirst = changed(/ +- kms:[^]*$/, "      - identity: {}\n");
  const second = `${SHIPPED}  - resources: [configmaps]
    providers: [{ kms: { apiVersion: v2, name: other, endpoint: "unix:///run/kms-pkcs11/kms.sock" } }]\n`;

  it.each<[string, string, RegExp, Partial<EncryptionFacts>?]>([
    ["kms is v1 by default", changed("apiVersion: v2", ""), /^fail: .*is v1.*add apiVersion: v2/],
    ["identity writes", identityFirst, /^warn: secrets: identity comes first.*put kms first/],
    ["nothing is kms", identityFirst, /^fail: no provider is kms/],
    [
      "the timeout is short",
      changed("timeout: 3s", "timeout: 100ms"),
      /^warn: .*100ms is below.*120\.0 ms; set/,
      { p99Ms: 120 },
    ],
    [
      "the plugin would wait longer",
      changed("timeout: 3s", "timeout: 1s"),
      /^warn: .*1s ends before.*hsm\.requestTimeout 2s/,
    ],
    [
      "the endpoint is another's",
      changed("kms.sock", "old.sock"),
      /^warn: no kms provider is at unix:.*kms\.sock.*kms-pkcs11 at unix:.*old\.sock; correct/,
    ],
    ["secrets are left out", changed("- secrets", "- configmaps"), /^warn: secrets are left out/],
    ["two providers share a socket", second, /^warn: kms provider other is the second one/],
    [
      "a local key writes",
      changed(
        /- kms:[^]*$/,
        `- aescbc: { keys: [{ name: k, secret: ${Buffer.alloc(32).toString("base64")} }] }\n`,
      ),
      /^warn: secrets: aescbc writes.*put kms first/,
    ],
  ])("%s", (_what, text, message, facts = {}) => {
    expect(advise(text, facts)).toContainEqual(expect.stringMatching(message));
  });
});

describe("knows from etcd", () => {
  const kms = { resource: "secrets", prefix: "k8s:enc:kms:v2:kms-pkcs11:", objects: 5 };
  const clear = { resource: "secrets", prefix: "", objects: 3 };

  it("whether identity is needed", () => {
    expect(advise(SHIPPED, { stored: [kms, clear] })).toContainEqual(
      expect.stringMatching(/^ok: .*needed: 3 objects/),
    );
    expect(advise(SHIPPED, { stored: [kms, { ...clear, resource: "pods" }] })).toContainEqual(
      expect.stringMatching(/^warn: .*nothing is in clear any more.*remove it/),
    );
  });

  it("what a renamed provider would make unreadable", () => {
    const renamed = SHIPPED.replace(/^( +name:) kms-pkcs11/m, "$1 hsm");
    expect(advise(renamed, { stored: [kms] })).toContainEqual(
      expect.stringMatching(
        /^fail: 5 objects of secrets are stored under k8s:enc:kms:v2:kms-pkcs11:.*keep the name/,
      ),
    );
    expect(advise(SHIPPED, { stored: [kms] }).join("\n")).not.toContain("fail");
  });
});
