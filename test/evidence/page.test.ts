// The page of a folder of evidence: what it says, that values of others cannot add markup, and that it loads nothing.

import { expect, it } from "vitest";

import { evidenceFiles } from "../../src/evidence/files.js";
import type { EvidenceFacts } from "../../src/evidence/facts.js";
import { cryptoperiodFinding } from "../../src/provider/cryptoperiod.js";
import { evidenceFacts } from "../support/evidence-facts.js";

const pageOf = (facts: EvidenceFacts): string => evidenceFiles(facts).get("index.html")?.toString() ?? "";
const DAY_MS = 86_400_000;

it("the evidence page shows keys, changes, requests, objects, drill, findings and every file", () => {
  const facts = evidenceFacts();
  const page = pageOf(facts);
  for (const text of [
    "100 days",
    "over the cryptoperiod",
    "keys rotate",
    "alice on cp-1",
    "2,000",
    "OpenSSL",
    "3 objects cannot be read",
  ]) {
    expect(page).toContain(text);
  }
  for (const [name] of evidenceFiles(facts)) if (name !== "index.html") expect(page).toContain(name);
  expect(page.match(/<svg/g)).toHaveLength(2);
});

it("labels, findings and audit lines cannot add markup to the evidence page", () => {
  const evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>\u202e';
  const facts = evidenceFacts(evil);
  const page = pageOf(facts);
  expect(page).toContain("&lt;script&gt;");
  expect(page).not.toMatch(/<(script|img|link|iframe)/i);
  expect(page).not.toContain("\u202e");
});

it("the evidence page says what was not collected", () => {
  const left = { usage: undefined, verification: undefined, audit: undefined, drill: undefined };
  const page = pageOf({ ...evidenceFacts(), ...left });
  expect(page.match(/Not collected/g)).toHaveLength(3);
  expect(page).toContain("No audit log is configured");
});

it("the evidence page says that later events were left out of it and of its file", () => {
  const facts = evidenceFacts();
  const { report, extract } = facts.audit as NonNullable<EvidenceFacts["audit"]>;
  const page = pageOf({ ...facts, audit: { report, extract: { ...extract, omitted: 1234 } } });
  expect(page).toContain("1,234 later events were left out");
  expect(pageOf(facts)).not.toContain("left out");
});

it.each([
  [80, undefined],
  [82, "its cryptoperiod (keys.cryptoperiod) ends in 8 days; rotate it"],
  [89.5, "its cryptoperiod (keys.cryptoperiod) ends in 12 hours; rotate it"],
  [95, "its cryptoperiod (keys.cryptoperiod) ended 5 days ago; rotate it"],
])("a KEK of %d days with a cryptoperiod of 90 days has the finding %j", (days, finding) => {
  expect(cryptoperiodFinding(0, days * DAY_MS, 90 * DAY_MS)).toBe(finding);
});

it("a KEK of unknown age has a finding only if a cryptoperiod is configured", () => {
  expect(cryptoperiodFinding(-Infinity, 0, DAY_MS)).toMatch(/has no activation instant/);
  expect(cryptoperiodFinding(-Infinity, 0, undefined)).toBeUndefined();
});
