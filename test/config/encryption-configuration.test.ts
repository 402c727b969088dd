// Reading an EncryptionConfiguration as kube-apiserver does: providers of a resource, wildcards, and what is refused.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import {
  parseEncryptionConfiguration,
  providersOfResource,
  storedPrefix,
  type EncryptionConfiguration,
} from "../../src/config/encryption-configuration.js";
import { KmsError } from "../../src/errors.js";
import { messageOf } from "./message-of.js";

const SECRET = Buffer.alloc(32, "a key in the file").toString("base64");
const HEAD = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n";

const parse = (text: string): EncryptionConfiguration =>
  parseEncryptionConfiguration(Buffer.from(text), "enc.yaml");
const rules = (...entries: readonly string[]): string => `${HEAD}resources:\n${entries.join("")}`;
const rule = (resources: string, ...providers: readonly string[]): string =>
  `  - resources: [${resources}]\n    providers:\n${providers.map((one) => `      - ${one}\n`).join("")}`;
const kms = (more: string): string => `kms: { name: hsm, endpoint: "unix:///run/kms.sock"${more} }`;
const IDENTITY = "identity: {}";

/** Returns the prefixes of a resource's providers; the first provider writes. */
const prefixes = (text: string, resource: string): string[] | undefined =>
  providersOfResource(parse(text), resource)?.map(storedPrefix);

describe("the providers of a resource", () => {
  const text = rules(
    rule("secrets, widgets.example.com", kms(", apiVersion: v2, timeout: 1m0.5s"), IDENTITY),
    rule("'*.apps'", `aescbc: { keys: [{ name: k1, secret: ${SECRET} }, { name: k0, secret: ${SECRET} }] }`),
    rule("secrets", `secretbox: { keys: [{ name: s1, secret: ${SECRET} }] }`),
    rule("'*.'", `aesgcm: { keys: [{ name: g1, secret: ${SECRET} }] }`),
  );

  it.each([
    ["secrets", ["k8s:enc:kms:v2:hsm:", "", "k8s:enc:secretbox:v1:s1:"]],
    ["widgets.example.com", ["k8s:enc:kms:v2:hsm:", ""]],
    ["deployments.apps", ["k8s:enc:aescbc:v1:k1:"]],
    ["configmaps", ["k8s:enc:aesgcm:v1:g1:"]],
    ["leases.coordination.k8s.io", undefined],
  ])("a resource's providers are found for %s", (resource, expected) => {
    expect(prefixes(text, resource)).toEqual(expected);
  });

  it("providers come from *.* if no rule names the resource or its group", () => {
    const all = rules(rule("events", IDENTITY), rule("'*.*'", kms(", apiVersion: v2")));
    expect(prefixes(all, "leases.coordination.k8s.io")).toEqual(["k8s:enc:kms:v2:hsm:"]);
    expect(prefixes(all, "events")).toEqual([""]);
  });

  it("a provider defaults to KMS v1 with a timeout of 3 s", () => {
    const [first, second] = [kms(""), kms(", apiVersion: v2, timeout: 1m0.5s")].map(
      (one) => parse(rules(rule("secrets", one))).rules[0]?.providers[0],
    );
    expect(first).toMatchObject({ apiVersion: "v1", timeoutMs: 3000 });
    expect(second).toMatchObject({ apiVersion: "v2", timeoutMs: 60_500 });
  });

  it("the providers contain no key of the file", () => {
    expect(JSON.stringify(parse(text))).not.toContain(SECRET.slice(0, 8));
  });

  it("the providers of the shipped file are read", () => {
    const path = fileURLToPath(new URL("../../deploy/encryption-configuration.yaml", import.meta.url));
    const shipped = parseEncryptionConfiguration(readFileSync(path), path);
    expect(providersOfResource(shipped, "secrets")?.map(storedPrefix)).toEqual([
      "k8s:enc:kms:v2:kms-pkcs11:",
      "",
    ]);
  });
});

describe("what kube-apiserver refuses", () => {
  const v2 = kms(", apiVersion: v2");
  it.each([
    [
      "another kind",
      "apiVersion: v1\nkind: EncryptionConfig\nresources: []\n",
      /^enc.yaml: apiVersion: give/m,
    ],
    ["no rule", `${HEAD}resources: []\n`, /resources: give at least one rule/],
    [
      "two providers in an entry",
      rules(rule("secrets", "{ identity: {}, aescbc: { keys: [] } }")),
      /providers\[0\]/,
    ],
    ["an empty entry", rules(rule("secrets", "{}")), /give exactly one of/],
    ["an unknown field", rules(rule("secrets", kms(", cacheSize: 5"))), /cacheSize/],
    [
      "another scheme",
      rules(rule("secrets", "kms: { name: a, endpoint: 'tcp://x' }")),
      /endpoint: give a unix/,
    ],
    ["a timeout without a unit", rules(rule("secrets", kms(", timeout: 3"))), /timeout/],
    ["capitals", rules(rule("Secrets", v2)), /lower case/],
    ["a bare star", rules(rule("'*'", v2)), /write \*\.\*/],
    ["a resource of any group", rules(rule("'secrets.*'", v2)), /across groups/],
    ["another group of events", rules(rule("events.events.k8s.io", v2)), /write events/],
    [
      "a masked resource",
      rules(rule("'*.*'", v2), rule("secrets", IDENTITY)),
      /secrets is masked by .*\*\.\*/,
    ],
    ["an overlap", rules(rule("'*.', secrets", v2)), /secrets and \*\. overlap/],
    ["a resource twice", rules(rule("secrets, secrets", v2)), /secrets is in the same rule twice/],
    ["a name twice", rules(rule("secrets", v2), rule("configmaps", v2)), /provider hsm appears twice/],
    [
      "cachesize in v2",
      rules(rule("secrets", kms(", apiVersion: v2, cachesize: 10"))),
      /v2 does not support; remove/,
    ],
  ])(
    "an EncryptionConfiguration that kube-apiserver refuses is refused here too: %s",
    (_what, text, message) => {
      expect(messageOf(() => parse(text))).toMatch(message);
    },
  );

  it("problems are reported in at most 20 bounded lines and the number of further ones", () => {
    const many = Array.from({ length: 20_000 }, (_, at) => `r${at}`);
    const unknown = messageOf(() => parse(`${HEAD}${many.map((name) => `${name}: 1\n`).join("")}`));
    const masked = messageOf(() => parse(rules(rule("'*.*'", v2), rule(many.join(", "), IDENTITY))));
    for (const message of [unknown, masked]) expect(message.length).toBeLessThan(20 * 600);
    expect(masked).toContain("and 19980 more problems");
    expect(parse(rules(rule(many.join(", "), v2))).rules[0]?.resources).toHaveLength(20_000);
  });

  it("problems are reported without the keys of the file", () => {
    const text = rules(rule("secrets", `aescbc: { keys: [{ name: k1, secret: ${SECRET.slice(0, 20)} }] }`));
    const message = messageOf(() => parse(text));
    expect(message).toMatch(/keys\[0\]\.secret: give 16, 24, 32 bytes in base64/);
    expect(message).not.toContain(SECRET.slice(0, 8));
  });
});

function isAccepted(text: string): boolean {
  try {
    return parse(text).rules.length > 0;
  } catch (error) {
    if (error instanceof KmsError) return false;
    throw error;
  }
}

interface Verdicts {
  readonly cases: readonly { readonly name: string; readonly accepted: boolean; readonly text: string }[];
}

describe("compared with kube-apiserver's own loader", () => {
  const { cases } = JSON.parse(
    readFileSync(new URL("encryption-verdicts.json", import.meta.url), "utf8"),
  ) as Verdicts;
  /** Deliberately refused here: empty names, unreachable sockets, the old kind, and unneeded YAML features. */
  const stricter = [
    /^resource (''|null|~|Null|NULL|-)$/,
    /^list \[secrets, null\]$/,
    /^endpoint ('unix:\/\/'|'unix:'|'unix:\/\/s'|'unix:s'|unix:@s)$/,
    /^kms apiVersion ''$/,
    /^head EncryptionConfig v1$/,
    /^yaml (two documents|custom tag|binary)$/,
  ];

  it("the parser agrees with kube-apiserver's except where it refuses more on purpose", () => {
    const differing = cases.filter(({ name, accepted, text }) => {
      const isStricter = stricter.some((pattern) => pattern.test(name));
      return isAccepted(text) !== (accepted && !isStricter);
    });
    expect(
      differing.map(({ name, accepted }) => `${name}: kube-apiserver ${accepted ? "accepts" : "refuses"} it`),
    ).toEqual([]);
  });
});
