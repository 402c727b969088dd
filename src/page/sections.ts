// The sections of a plugin's page that are read from /readyz and /metrics: health, requests, cache, audit log.
import { html, type Html } from "./html.js";
import type { MetricValues } from "./metric-values.js";
import type { PageKeyring, PageReadiness } from "./page-facts.js";

/** Findings that a page shows. */
const MAX_FINDINGS = 40;

type Fact = readonly [name: string, value: string | number | Html | undefined];

/** Returns a list of findings, or one quiet sentence if there are none. */
export function findings(lines: readonly string[], kind: "warn" | "fail"): Html {
  if (lines.length === 0) return html`<p class="quiet">No findings.</p>`;
  const more = lines.length - MAX_FINDINGS;
  return html`<ul class="findings">
    ${lines.slice(0, MAX_FINDINGS).map((line) => html`<li class="finding ${kind}">${line}</li>`)}
    ${more > 0 && html`<li class="quiet">and ${more} more</li>`}
  </ul>`;
}

/** Returns the section about readiness and the HSM. */
export function healthSection(
  { ready, lines }: PageReadiness,
  { heldBack }: PageKeyring,
  metrics: MetricValues,
): Html {
  const shown = [...lines.filter((line) => line !== "ok"), ...(heldBack === null ? [] : [heldBack])];
  const away = metrics.sum("kms_pkcs11_outage_seconds") ?? 0;
  return html`<section class="health" aria-labelledby="health">
    <h2 id="health">Health</h2>
    ${findings([...new Set(shown)], ready ? "warn" : "fail")}
    ${facts([
      [
        "HSM",
        yesOrNo(metrics.sum("kms_pkcs11_hsm_up"), "answers", `cannot be used for ${Math.round(away)} s`),
      ],
      ["Token hosts ready", metrics.sum("kms_pkcs11_token_hosts")],
      ["Token hosts that failed", failedHosts(metrics)],
      ["Sessions", metrics.sum("kms_pkcs11_sessions")],
      ["Last reading of the token", readingOf(metrics)],
      ["Requests waiting", metrics.sum("kms_pkcs11_queue_length")],
    ])}
  </section>`;
}

/** A host that was replaced to load the library again has not failed. */
function failedHosts(metrics: MetricValues): number {
  const name = "kms_pkcs11_token_host_restarts_total";
  return (metrics.sum(name) ?? 0) - (metrics.sum(name, 'cause="reload"') ?? 0);
}

/** Returns the section about requests since the start. */
export function requestSection(metrics: MetricValues): Html {
  const name = "kms_pkcs11_requests_total";
  const rows = ["Status", "Encrypt", "Decrypt"].map((operation) => {
    const label = `operation="${operation}"`;
    const all = metrics.sum(name, label) ?? 0;
    const ok = metrics.sum(name, `${label},code="OK"`) ?? 0;
    return html`<tr>
      <th scope="row">${operation}</th>
      <td>${ok}</td>
      <td class="${all > ok ? "some" : ""}">${all - ok}</td>
    </tr>`;
  });
  return html`<section aria-labelledby="requests">
    <h2 id="requests">Requests since the start</h2>
    <table>
      <thead>
        <tr>
          <th scope="col">Operation</th>
          <th scope="col">OK</th>
          <th scope="col">Failed</th>
        </tr>
      </thead>
      <tbody>
        ${rows}
      </tbody>
    </table>
  </section>`;
}

/** Returns the section about the unwrap cache and the working set. */
export function cacheSection(metrics: MetricValues): Html {
  const hits = metrics.sum("kms_pkcs11_cache_hits_total") ?? 0;
  const misses = metrics.sum("kms_pkcs11_cache_misses_total") ?? 0;
  const rate = hits + misses === 0 ? undefined : `${((100 * hits) / (hits + misses)).toFixed(1)} %`;
  const working = (name: string): number | undefined => metrics.sum(`kms_pkcs11_working_set_${name}`);
  return html`<section aria-labelledby="cache">
    <h2 id="cache">Cache and working set</h2>
    ${facts([
      ["Seeds in the cache", metrics.sum("kms_pkcs11_cache_entries")],
      ["Decrypts from the cache", rate === undefined ? hits : `${hits} (${rate})`],
      ["Removed because it was full", metrics.sum("kms_pkcs11_cache_evictions_total")],
      ["Remembered for the next start", working("remembered")],
      ["Not decrypted yet after this start", working("pending")],
      ["Decrypted in advance", working("prefetched_total")],
      ["Failed renewals", metrics.sum("kms_pkcs11_cache_renewal_failures_total")],
    ])}
  </section>`;
}

/** Returns the section about the audit log. */
export function auditSection(metrics: MetricValues): Html {
  const up = metrics.sum("kms_pkcs11_audit_up");
  const lost = metrics.sum("kms_pkcs11_audit_lost_total") ?? 0;
  return html`<section aria-labelledby="audit">
    <h2 id="audit">Audit log</h2>
    ${
      up === undefined
        ? html`<p class="quiet">No audit log is configured.</p>`
        : html`${lost > 0 && findings([`${lost} events were lost`], "fail")}
          ${facts([
            ["State", yesOrNo(up, "can be written", "cannot be written; see the log")],
            ["Events written", metrics.sum("kms_pkcs11_audit_events_total")],
            ["Events waiting", metrics.sum("kms_pkcs11_audit_buffered")],
            ["Events lost", lost],
          ])}`
    }
  </section>`;
}

/** Returns a list of names and values; a name without a value is left out. */
export function facts(rows: readonly Fact[]): Html {
  const known = rows.filter(([, value]) => value !== undefined);
  return html`<dl>
    ${known.map(
      ([name, value]) =>
        html`<div>
          <dt>${name}</dt>
          <dd>${value}</dd>
        </div>`,
    )}
  </dl>`;
}

function readingOf(metrics: MetricValues): string | undefined {
  const seconds = metrics.sum("kms_pkcs11_keyring_reading_seconds");
  return seconds === undefined ? undefined : `${Math.round(seconds * 1_000)} ms`;
}

function yesOrNo(value: number | undefined, yes: string, no: string): Html | undefined {
  if (value === undefined) return undefined;
  return value === 0 ? html`<span class="some">${no}</span>` : html`<span>${yes}</span>`;
}
