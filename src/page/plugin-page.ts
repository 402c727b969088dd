// The page of one plugin: health, KEKs on a time line, objects in etcd, cache and audit log. Shows what /readyz, /keys and
// /metrics give at the same address, and the usage report in the state directory.
import { auditSection, cacheSection, healthSection, requestSection } from "./sections.js";
import { censusSection, CensusFile, REPORT_FILE } from "./census.js";
import { html, type Html } from "./html.js";
import { msOf, relative, utc } from "./instants.js";
import { layOut, type RenderedPage } from "./layout.js";
import { MetricValues } from "./metric-values.js";
import type { PluginFacts, PageKeyring } from "./page-facts.js";
import { timeLine } from "./time-line.js";

/** Renders the page of this plugin. */
export class PluginPage {
  readonly #version: string;
  readonly #census: CensusFile | undefined;

  /** @param stateDir the folder in which an operator puts the usage report; undefined for none */
  constructor(version: string, stateDir: string | undefined) {
    this.#version = version;
    this.#census = stateDir === undefined ? undefined : new CensusFile(`${stateDir}/${REPORT_FILE}`);
  }

  /** Returns the page. Takes a few milliseconds, however many KEKs there are. */
  render({ readiness, keyring, metrics }: PluginFacts): RenderedPage {
    const values = new MetricValues(metrics);
    const now = msOf(keyring.now) ?? 0;
    const { ready, lines } = readiness;
    const hasFindings = lines.some((line) => line !== "ok") || keyring.heldBack !== null;
    return layOut({
      headline: !ready ? "Not ready" : hasFindings ? "Ready, with findings" : "Ready",
      kind: !ready ? "fail" : hasFindings ? "warn" : "ok",
      subject: html`kms-pkcs11 ${this.#version} · ${utc(now)}`,
      content: html`${healthSection(readiness, keyring, values)} ${kekSection(keyring, now)}
        ${censusSection(this.#census?.read() ?? { problem: undefined }, keyring, now)}
        <div class="pair">${cacheSection(values)} ${requestSection(values)}</div>
        ${auditSection(values)}`,
      foot: html`<p>
          kms-pkcs11 ${this.#version}, Node.js ${process.version.slice(1)}. This page is read-only.
        </p>
        <nav aria-label="Endpoints">
          <a href="/readyz">/readyz</a><a href="/keys">/keys</a><a href="/metrics">/metrics</a>
        </nav>`,
    });
  }
}

function kekSection(keyring: PageKeyring, now: number): Html {
  const read = msOf(keyring.readAt);
  return html`<section aria-labelledby="keks">
    <h2 id="keks">Key encryption keys</h2>
    <p class="facts">
      <span>${keyring.publishedKeyId === null ? "no KEK is published" : nextSwitch(keyring, now)}</span>
      <span
        >${read === undefined ? "the token has not been read yet" : html`token read ${relative(read, now)}`}</span
      >
    </p>
    ${timeLine(keyring.keys, now)}
  </section>`;
}

function nextSwitch({ keys, dueKeyId }: PageKeyring, now: number): Html {
  if (dueKeyId !== null) return html`the next Status call switches to <code>${dueKeyId}</code>`;
  const instants = keys
    .filter(({ state }) => state === "standby")
    .flatMap((key) => msOf(key.activation) ?? []);
  return instants.length === 0
    ? html`no rotation is planned`
    : html`the next KEK activates ${relative(Math.min(...instants), now)}`;
}
