// The page of a folder of evidence: one HTML file that loads nothing and runs nothing, for a screen and for A4.
import { createHash } from "node:crypto";
import { html, type Html } from "../page/html.js";
import { auditSections } from "./audit-page.js";
import { drillSection } from "./drill-page.js";
import { amountChart, periodChart, type KekPeriod } from "./charts.js";
import type { EvidenceFacts, EvidenceKek } from "./facts.js";
import { STYLE } from "./style.js";
import { notCollected, table } from "./table.js";

const DAY_MS = 86_400_000;
const SHOWN_KEY_ID = 14;

/** Returns the page as UTF-8 text. @param files the other files of the folder, with their digests */
export function evidencePage(
  facts: EvidenceFacts,
  files: readonly { name: string; sha256: string }[],
): string {
  const hash = createHash("sha256").update(STYLE).digest("base64");
  const body = html`<body>
    <main>
      <h1>Evidence about the KEKs of ${facts.host}</h1>
      <p class="quiet">
        Collected ${facts.collectedAt.toISOString()} by kms-pkcs11 ${facts.versions.program}. Times are UTC.
      </p>
      ${keySection(facts)} ${auditSections(facts.audit)} ${usageSection(facts)} ${verificationSection(facts)}
      ${drillSection(facts)} ${checkSection(facts)} ${versionSection(facts)} ${fileSection(files)}
    </main>
  </body>`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'">
<title>Evidence, kms-pkcs11</title>
<style>${STYLE}</style>
</head>
${String(body)}
</html>
`;
}

function keySection({ keys, collectedAt, cryptoperiodMs }: EvidenceFacts): Html {
  const now = collectedAt.getTime();
  return html`<h2>Keys</h2>
    ${keys.problem !== null && html`<p class="fail">${keys.problem}</p>`}
    <p>
      ${
        cryptoperiodMs === undefined
          ? "No cryptoperiod is configured (keys.cryptoperiod)."
          : `The cryptoperiod is ${days(cryptoperiodMs)}; a red mark shows where each KEK reaches it.`
      }
    </p>
    ${periodChart(periodsOf(keys.keys), now, cryptoperiodMs)}
    ${table(
      ["State", "key_id", "Label", "Kind", "Activation", "Age", "Findings"],
      keys.keys.map((kek) => [
        kek.state,
        html`<code>${kek.keyId}</code>`,
        kek.label,
        kek.kind,
        kek.activation ?? "none",
        ageOf(kek, now, cryptoperiodMs),
        kek.findings.length === 0 ? "none" : html`<span class="warn">${kek.findings.join("; ")}</span>`,
      ]),
    )}`;
}

function periodsOf(keks: readonly EvidenceKek[]): KekPeriod[] {
  const dated = keks
    .map((kek) => ({ kek, from: kek.activation === null ? undefined : Date.parse(kek.activation) }))
    .sort((one, other) => (one.from ?? 0) - (other.from ?? 0));
  return dated.map(({ kek: { keyId, state }, from }, at) => ({
    name: keyId.slice(0, SHOWN_KEY_ID),
    state,
    from,
    until: dated[at + 1]?.from,
  }));
}

function ageOf({ activation, state }: EvidenceKek, now: number, cryptoperiodMs: number | undefined): Html {
  const age = activation === null ? NaN : now - Date.parse(activation);
  if (!(age >= 0)) return html`-`;
  const isOver = state === "active" && cryptoperiodMs !== undefined && age > cryptoperiodMs;
  return html`<span class="${isOver ? "fail" : "ok"}"
    >${days(age)}${isOver && ", over the cryptoperiod"}</span
  >`;
}

function days(ms: number): string {
  const count = Math.floor(ms / DAY_MS);
  return `${count} day${count === 1 ? "" : "s"}`;
}

function usageSection({ usage }: EvidenceFacts): Html {
  if (usage === undefined) {
    return notCollected("Objects in etcd", "--usage-report, a report of `etcd usage --report`");
  }
  const names = usage.usages.map(({ protection, keyId }) => keyId ?? protection);
  const amounts = usage.usages.map(({ objects }, at) => ({
    name: (names[at] ?? "").slice(0, SHOWN_KEY_ID),
    value: objects,
  }));
  return html`<h2>Objects in etcd</h2>
    <p>
      ${usage.objects.toLocaleString("en-US")} objects from ${usage.startedAt} to ${usage.finishedAt}, source:
      ${usage.source.kind === "etcd" ? `etcd, cluster ${usage.source.clusterId}` : `snapshot, SHA-256 ${usage.source.sha256}`}.
    </p>
    ${amountChart(amounts, "Objects by KEK or other protection")}
    ${table(
      ["Protection", "Provider", "key_id", "Objects"],
      usage.usages.map(({ protection, provider, keyId, objects }) => [
        protection,
        provider,
        keyId ?? "-",
        objects,
      ]),
    )}`;
}

function verificationSection({ verification }: EvidenceFacts): Html {
  if (verification === undefined) {
    return notCollected(
      "Objects that can be decrypted",
      "--verification, the output of `etcd verify -o json`",
    );
  }
  const { resources, failures } = verification;
  return html`<h2>Objects that can be decrypted</h2>
    <p class="${failures.length === 0 ? "ok" : "fail"}">
      ${failures.length === 0 ? "Every encrypted object was decrypted." : "Some objects could not be decrypted."}
    </p>
    ${table(
      ["Resource", "Objects", "Decrypted", "Failed"],
      resources.map(({ resource, objects, opened, failed }) => [resource, objects, opened, failed]),
    )}`;
}

function checkSection({ findings }: EvidenceFacts): Html {
  return html`<h2>Configuration and token</h2>
    ${table(
      ["Result", "Subject", "Finding"],
      findings.map(({ verdict, subject, detail }) => [
        html`<span class="${verdict}">${verdict}</span>`,
        subject,
        detail,
      ]),
    )}`;
}

function versionSection({ versions }: EvidenceFacts): Html {
  const { program, node, system, modules } = versions;
  return html`<h2>Versions</h2>
    ${table(
      ["What", "Version"],
      [
        ["kms-pkcs11", program],
        ["Node.js", node["node"] ?? ""],
        ["OpenSSL in Node.js", node["openssl"] ?? ""],
        ["Operating system", system],
        ...modules.map(({ path, sha256 }) => [
          `PKCS#11 library ${path}`,
          html`SHA-256 <code>${sha256 ?? "not readable"}</code>`,
        ]),
      ],
    )}
    <p class="quiet">sbom.cdx.json lists the npm packages.</p>`;
}

function fileSection(files: readonly { name: string; sha256: string }[]): Html {
  return html`<h2>Files</h2>
    ${table(
      ["File", "SHA-256"],
      files.map(({ name, sha256 }) => [name, html`<code>${sha256}</code>`]),
    )}
    <p class="quiet">Check the folder with <code>kms-pkcs11 evidence verify</code>.</p>`;
}
