// The objects in etcd by key_id, from the usage report that an operator put into the state directory. Reads a report, of
// bounded size, only when its file has changed.
import { statSync } from "node:fs";
import { readUsageReport, type UsageReport } from "../etcd/usage-report.js";
import { html, type Html } from "./html.js";
import { msOf, relative, utc } from "./instants.js";
import type { PageKeyring } from "./page-facts.js";

/** The report's name in the state directory. */
export const REPORT_FILE = "usage-report.json";
/** A report has a few lines for each resource and key_id; parsing this much takes a few milliseconds. */
const MAX_BYTES = 256 * 1_024;
const MAX_ROWS = 40;
const MAX_RESOURCES = 3;

/** A usage report, or why there is none to show. */
export type Census = { readonly report: UsageReport } | { readonly problem: string | undefined };

/** Reads the report in a state directory. */
export class CensusFile {
  readonly #path: string;
  #version = "";
  #census: Census = { problem: undefined };

  constructor(path: string) {
    this.#path = path;
  }

  /** Returns the report as it is now; never throws. */
  read(): Census {
    const { version, size } = versionOf(this.#path);
    if (version === this.#version) return this.#census;
    this.#version = version;
    this.#census = version === "" ? { problem: undefined } : readBounded(this.#path, size);
    return this.#census;
  }
}

function versionOf(path: string): { version: string; size: number } {
  const stat = statSync(path, { throwIfNoEntry: false, bigint: true });
  if (stat === undefined) return { version: "", size: 0 };
  return { version: `${stat.dev} ${stat.ino} ${stat.mtimeNs} ${stat.size}`, size: Number(stat.size) };
}

function readBounded(path: string, size: number): Census {
  if (size > MAX_BYTES) return { problem: `it is longer than ${MAX_BYTES} bytes` };
  try {
    return { report: readUsageReport(path) };
  } catch {
    return { problem: "it cannot be read, or is not a usage report" };
  }
}

/** Returns the section about the objects in etcd. @param now ms since the epoch */
export function censusSection(census: Census, keyring: PageKeyring, now: number): Html {
  return html`<section aria-labelledby="census">
    <h2 id="census">Objects in etcd</h2>
    ${"report" in census ? reportOf(census.report, keyring, now) : missing(census.problem)}
  </section>`;
}

function missing(problem: string | undefined): Html {
  return html`<p class="quiet">
      ${problem === undefined ? "There is no usage report." : `The usage report is not shown: ${problem}.`}
      Make one, with etcdctl's options, in the plugin's state directory:
    </p>
    <pre tabindex="0" role="region" aria-label="Command">
kms-pkcs11 etcd usage --report &lt;stateDir&gt;/${REPORT_FILE}</pre>`;
}

function reportOf(report: UsageReport, keyring: PageKeyring, now: number): Html {
  const taken = msOf(report.finishedAt) ?? now;
  const usages = [...report.usages].sort((one, other) => other.objects - one.objects);
  const active = keyring.keys.find(({ keyId }) => keyId === keyring.publishedKeyId);
  const isOld = (msOf(active?.activation) ?? -Infinity) > taken;
  const more = usages.length - MAX_ROWS;
  return html`<p class="facts">
      <span>${report.objects} objects under <bdi>${report.prefix}</bdi></span>
      <span
        >${report.source.kind === "etcd" ? "counted" : "counted in a snapshot,"} ${utc(taken)},
        ${relative(taken, now)}</span
      >
    </p>
    ${isOld && html`<p class="finding warn">Counted before the active KEK was activated: count again.</p>`}
    ${report.unreadable.length > 0 && html`<p class="finding fail">Some objects cannot be read; see the report.</p>`}
    <table>
      <thead>
        <tr>
          <th scope="col">Protected by</th>
          <th scope="col">Objects</th>
          <th scope="col" class="wide">Resources</th>
        </tr>
      </thead>
      <tbody>
        ${usages.slice(0, MAX_ROWS).map((usage) => usageRow(usage, keyring))}
      </tbody>
    </table>
    ${more > 0 && html`<p class="quiet">and ${more} more</p>`}`;
}

function usageRow(
  { keyId, protection, provider, objects, resources }: UsageReport["usages"][number],
  keyring: PageKeyring,
): Html {
  const state = keyring.keys.find((key) => key.keyId === keyId)?.state;
  const names = Object.entries(resources).sort(([, one], [, other]) => other - one);
  const listed = names.slice(0, MAX_RESOURCES).map(([name, count]) => `${name} ${count}`);
  if (names.length > MAX_RESOURCES) listed.push(`${names.length - MAX_RESOURCES} more`);
  return html`<tr>
    <th scope="row">
      ${keyId === null ? (provider === "" ? protection : provider) : html`<code>${keyId}</code>`}
      ${state !== undefined && html`<span class="state ${state}">${state}</span>`}
      ${keyId !== null && state === undefined && html`<span class="state">not on the token</span>`}
    </th>
    <td>${objects}</td>
    <td class="wide">${listed.join(", ")}</td>
  </tr>`;
}
