// The page of a plugin, rendered in this process: what it shows, how it escapes, and that it is bounded.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, expect, it } from "vitest";

import { usageReport, writeUsageReport } from "../../src/etcd/usage-report.js";
import { fleetPage } from "../../src/page/fleet-page.js";
import type { FleetNode, PluginFacts, PageKek } from "../../src/page/page-facts.js";
import { PluginPage } from "../../src/page/plugin-page.js";

const folder = mkdtempSync(join(tmpdir(), "page-"));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const NOW = "2026-11-27T12:00:00.000Z";
const HOSTILE = `"'\`><script>alert(1)</script><img src=x onerror=alert(1)>&lt;\u202Egpj.\u0000\n</title></svg>`;

const kek = (changes: Partial<PageKek> = {}): PageKek => ({
  keyId: "k1",
  label: "kms-kek@20261101T100000Z",
  state: "active",
  activation: "2026-11-01T10:00:00.000Z",
  provenAt: "2026-11-27T11:59:50.000Z",
  failure: null,
  ...changes,
});

const facts = (keys: readonly PageKek[] = [kek()], changes: Partial<PluginFacts> = {}): PluginFacts => ({
  readiness: { ready: true, lines: ["ok"] },
  keyring: { now: NOW, publishedKeyId: "k1", dueKeyId: null, heldBack: null, readAt: NOW, keys },
  metrics: "",
  ...changes,
});

const pageOf = (known: PluginFacts, stateDir?: string): string =>
  new PluginPage("1.2.3", stateDir).render(known).body;
/** What a reader sees of a page. */
const textOf = (page: string): string =>
  page
    .replaceAll(/<(style|script)>[^]*?<\/\1>/g, "")
    .replaceAll(/<[^>]*>/g, " ")
    .replaceAll(/\s+/g, " ");
const tags = (page: string): number => page.split("<").length;

it("the page shows state, KEKs and the next activation", () => {
  const standby = kek({
    keyId: "k2",
    state: "standby",
    activation: "2026-11-27T15:00:00.000Z",
    provenAt: null,
  });
  const text = textOf(pageOf(facts([standby, kek()])));
  expect(text).toContain("Ready");
  expect(text).toContain("the next KEK activates in 3 h");
  expect(text).toMatch(/standby k2 .*activates 2026-11-27 15:00:00 UTC .* not tested yet/);
  expect(text).toMatch(
    /active k1 .*activated 2026-11-01 10:00:00 UTC , 26 d ago .*self-test passed 10 s ago/,
  );
});

it("the page says that the plugin is not ready, and why", () => {
  const readiness = { ready: false, lines: ["HSM is away for 3 s: no token"] };
  const text = textOf(pageOf(facts([kek({ failure: "CKR_DEVICE_ERROR" })], { readiness })));
  expect(text).toContain("Not ready");
  expect(text).toContain("HSM is away for 3 s: no token");
  expect(text).toContain("Self-test failed: CKR_DEVICE_ERROR");
});

it("the page shows values of the metrics, and leaves out those that are missing", () => {
  const metrics = [
    'kms_pkcs11_requests_total{operation="Decrypt",code="OK"} 7',
    'kms_pkcs11_requests_total{operation="Decrypt",code="UNAVAILABLE"} 2',
    "kms_pkcs11_cache_hits_total 3",
    "kms_pkcs11_cache_misses_total 1",
    "kms_pkcs11_proportional_memory_bytes NaN",
    "kms_pkcs11_hsm_up 0",
    "kms_pkcs11_audit_up 1",
    "kms_pkcs11_audit_lost_total 4",
  ].join("\n");
  const text = textOf(pageOf(facts([], { metrics })));
  expect(text).toContain("Decrypt 7 2");
  expect(text).toContain("3 (75.0 %)");
  expect(text).toContain("HSM cannot be used for 0 s");
  expect(text).toContain("4 events were lost");
  expect(text).not.toMatch(/NaN|undefined/);
});

it("the page does not count a token host that reloaded the library as failed", () => {
  const metrics = [
    'kms_pkcs11_token_host_restarts_total{cause="reload"} 3',
    'kms_pkcs11_token_host_restarts_total{cause="hang"} 2',
  ].join("\n");
  expect(textOf(pageOf(facts([], { metrics })))).toContain("Token hosts that failed 2 ");
});

it("the page says what a due KEK waits for", () => {
  const text = textOf(pageOf(facts([kek({ state: "due" })])));
  expect(text).toContain("in use from the next Status call on; due since 2026-11-01 10:00:00 UTC");
});

it("the page escapes every value", () => {
  const keys = [
    kek({ keyId: HOSTILE, label: HOSTILE, failure: HOSTILE, activation: HOSTILE, provenAt: HOSTILE }),
  ];
  const tame = facts([kek({ keyId: "k", failure: "f", activation: null, provenAt: null })], {
    readiness: { ready: false, lines: ["l"] },
  });
  const hostile = facts(keys, {
    readiness: { ready: false, lines: [HOSTILE] },
    metrics: `${HOSTILE}\nkms_pkcs11_hsm_up{a="${HOSTILE}"} ${HOSTILE}`,
  });
  const page = pageOf({ ...hostile, keyring: { ...hostile.keyring, heldBack: HOSTILE, dueKeyId: HOSTILE } });
  expect(page).not.toContain("alert(1)</script>");
  expect(page).not.toContain("<img");
  expect(page).not.toContain("\u202E");
  expect(page).toContain("\\u202egpj.");
  // One more finding, with its list item, and the name of the due KEK.
  expect(tags(page)).toBeLessThanOrEqual(tags(pageOf(tame)) + 8);
});

it("the console's page escapes what the nodes answer", () => {
  const node = (url: string, keyring: PluginFacts["keyring"]): FleetNode => ({
    url,
    error: null,
    version: HOSTILE,
    readiness: { ready: false, lines: [HOSTILE] },
    keyring,
    clockAheadMs: 0,
  });
  const { keyring } = facts([kek({ keyId: HOSTILE, label: HOSTILE, failure: HOSTILE })]);
  const nodes = [
    node(`http://a/${HOSTILE}`, { ...keyring, publishedKeyId: HOSTILE }),
    node("http://b", facts([]).keyring),
    { url: "http://c", error: HOSTILE, clockAheadMs: null },
  ];
  const page = fleetPage({ now: Date.parse(NOW), nodes, differences: [HOSTILE] }, "1.2.3").body;
  expect(page).not.toContain("alert(1)</script>");
  expect(page).not.toContain("<img");
  expect(textOf(page)).toContain("1 of 3 nodes does not answer");
  expect(textOf(page)).toContain("Missing on http://b.");
});

it("the console's page marks a KEK whose state differs between nodes", () => {
  const node = (url: string, keys: readonly PageKek[]): FleetNode => {
    const { readiness, keyring } = facts(keys);
    return { url: `${url}/keys`, error: null, readiness, keyring, clockAheadMs: 1_500 };
  };
  const pageFor = (nodes: readonly FleetNode[], differences: readonly string[] = []): string =>
    textOf(fleetPage({ now: Date.parse(NOW), nodes, differences }, "1.2.3").body);
  const same = [node("http://a", [kek()]), node("http://b", [kek()])];
  expect(pageFor(same)).toContain("All 2 nodes are ready and agree");
  expect(pageFor(same)).toContain("1.5 s ahead");
  const three = [...same, node("http://c", [kek({ state: "due" })])];
  const text = pageFor(three, ["http://c/keys differs"]);
  expect(text).toContain("1 difference between the nodes");
  expect(text).toContain("http://c differs");
  expect(text).toContain("due on http://c.");
});

it("the page has a policy that allows its own style and script only", () => {
  const { headers, body } = new PluginPage("1.2.3", undefined).render(facts());
  const policy = headers["content-security-policy"] ?? "";
  expect(policy).toMatch(/^default-src 'none'; style-src 'sha256-[^']+'; script-src 'sha256-[^']+'; /);
  expect(policy).toContain("frame-ancestors 'none'");
  expect(policy).not.toContain("unsafe");
  expect(body).not.toMatch(/ style=| on\w+=/);
});

it("the page is bounded however many KEKs, findings and metrics there are", () => {
  const many = Array.from({ length: 5_000 }, (_, at) =>
    kek({ keyId: `k${at}`, state: at % 2 === 0 ? "retired" : "standby", failure: "x".repeat(500) }),
  );
  const readiness = { ready: false, lines: many.map(({ keyId }) => `KEK ${keyId}`) };
  const page = pageOf(facts(many, { readiness, metrics: "kms_pkcs11_hsm_up 1\n".repeat(200_000) }));
  expect(page.length).toBeLessThan(200_000);
  expect(textOf(page)).toMatch(/and 4940 more/);
});

it.each([
  ["1970-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"],
  [null, null],
  [NOW, NOW],
])("positions are inside the line for activations %s and %s", (one, other) => {
  const page = pageOf(
    facts([kek({ activation: other }), kek({ keyId: "k0", state: "retired", activation: one })]),
  );
  const positions = [...page.matchAll(/(?:x|x1|x2|width)="([^"]+)%"/g)].map(([, percent]) => Number(percent));
  expect(positions.length).toBeGreaterThan(5);
  for (const percent of positions) expect(percent >= 0 && percent <= 100.4).toBe(true);
});

const report = (finishedAt: string): Parameters<typeof writeUsageReport>[1] =>
  usageReport(
    {
      objects: 12,
      usages: [
        {
          protection: "kms-v2",
          provider: "pkcs11",
          keyId: "k1",
          objects: 12,
          seeds: { count: 2, isAtLeast: false },
          resources: { secrets: 11, [HOSTILE]: 1 },
          namespaces: { count: 1, isAtLeast: false },
          oldestRevision: 1,
          newestRevision: 9,
        },
      ],
      plaintextToEncrypt: null,
      unreadable: [],
    },
    {
      toolVersion: "1.2.3",
      startedAt: new Date(finishedAt),
      finishedAt: new Date(finishedAt),
      source: { kind: "etcd", endpoints: ["https://secret-host:2379"], clusterId: "1", etcdVersion: "3.6" },
      prefix: "/registry/",
      revisions: { first: 9, last: 9 },
    },
  );

it("the page shows the state directory's usage report with its age, and its changes", () => {
  const page = new PluginPage("1.2.3", folder);
  const shown = (): string => textOf(page.render(facts()).body);
  const path = join(folder, "usage-report.json");
  expect(shown()).toContain("There is no usage report.");
  writeFileSync(path, "not a report");
  expect(shown()).toContain("The usage report is not shown: it cannot be read, or is not a usage report.");
  writeFileSync(path, "x".repeat(300_000));
  expect(shown()).toContain("it is longer than 262144 bytes");
  writeUsageReport(path, report("2026-11-27T10:00:00.000Z"));
  expect(shown()).toMatch(/12 objects under \/registry\/ counted 2026-11-27 10:00:00 UTC , 2 h ago/);
  expect(shown()).toContain("k1 active 12 secrets 11");
  expect(shown()).not.toContain("secret-host");
  writeUsageReport(path, report("2026-10-27T10:00:00.000Z"));
  expect(shown()).toContain("count again");
  rmSync(path);
  expect(shown()).toContain("There is no usage report.");
});
