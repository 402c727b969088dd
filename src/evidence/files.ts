// The files of a folder of evidence, from the facts.
import { packageList } from "./packages.js";
import type { EvidenceFacts } from "./facts.js";
import { sha256 } from "./manifest.js";
import { evidencePage } from "./page.js";

/** Returns the files by name, the page included. */
export function evidenceFiles(facts: EvidenceFacts): Map<string, Buffer> {
  const { collectedAt, host, cryptoperiodMs, keys, findings, audit, usage, verification, drill, versions } =
    facts;
  const files = new Map<string, Buffer>();
  const add = (name: string, value: unknown): void => {
    files.set(name, Buffer.from(`${JSON.stringify(value, null, 2)}\n`));
  };
  add("keys.json", {
    host,
    at: collectedAt,
    cryptoperiodSeconds: (cryptoperiodMs ?? 0) / 1000 || null,
    ...keys,
  });
  add("check.json", findings);
  add("versions.json", versions);
  add("sbom.cdx.json", packageList());
  if (audit !== undefined) {
    const { events, ...counts } = audit.extract;
    add("audit-verification.json", audit.report);
    add("audit-requests.json", counts);
    files.set("audit-events.jsonl", Buffer.from(events.map((line) => `${line}\n`).join("")));
  }
  if (usage !== undefined) add("usage-report.json", usage);
  if (verification !== undefined) add("verification.json", verification);
  if (drill !== undefined) add("drill.json", drill);
  const listed = [...files].map(([name, bytes]) => ({ name, sha256: sha256(bytes) }));
  files.set("index.html", Buffer.from(evidencePage(facts, listed)));
  return files;
}
