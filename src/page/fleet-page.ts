// The page of a fleet: what the nodes disagree about, the KEKs of all nodes on one time line, and each node's state.
import { html, type Html } from "./html.js";
import { msOf, relative, utc } from "./instants.js";
import { layOut, type RenderedPage } from "./layout.js";
import type { FleetFacts, FleetNode, PageKek } from "./page-facts.js";
import { facts, findings } from "./sections.js";
import { timeLine, type TimedKek } from "./time-line.js";

/** Nodes that a page shows. */
const MAX_NODES = 100;
/** Nodes that a remark names. */
const MAX_NAMED = 3;

/** Returns the page. @param version that of the command that serves it */
export function fleetPage({ now, nodes, ...facts }: FleetFacts, version: string): RenderedPage {
  const differences = facts.differences.map((line) => shortened(line, nodes));
  const silent = nodes.filter(({ error }) => error !== null).length;
  const unready = nodes.filter(({ readiness }) => readiness?.ready === false).length;
  const kind = silent + unready > 0 ? "fail" : differences.length > 0 ? "warn" : "ok";
  return layOut({
    headline: headlineOf(nodes.length, silent, unready, differences.length),
    kind,
    subject: html`kms-pkcs11 console · ${utc(now)}`,
    content: html`<section aria-labelledby="differences">
        <h2 id="differences">Differences</h2>
        ${
          differences.length === 0
            ? html`<p class="quiet">
                ${nodes.length - silent === 1 ? "Only one node answers." : "The nodes that answer agree."}
              </p>`
            : findings(differences, "warn")
        }
      </section>
      <section aria-labelledby="keks">
        <h2 id="keks">Key encryption keys</h2>
        ${silent === nodes.length ? html`<p class="quiet">No node answers.</p>` : timeLine(keksOf(nodes), now)}
      </section>
      <section aria-labelledby="nodes">
        <h2 id="nodes">Nodes</h2>
        <ul class="nodes">
          ${nodes.slice(0, MAX_NODES).map((node) => nodeItem(node, now))}
        </ul>
        ${nodes.length > MAX_NODES && html`<p class="quiet">and ${nodes.length - MAX_NODES} more</p>`}
      </section>`,
    foot: html`<p>kms-pkcs11 ${version}. This page is read-only.</p>`,
  });
}

function headlineOf(all: number, silent: number, unready: number, differences: number): string {
  if (silent > 0) return `${silent} of ${all} nodes ${silent === 1 ? "does" : "do"} not answer`;
  if (unready > 0) return `${unready} of ${all} nodes ${unready === 1 ? "is" : "are"} not ready`;
  if (differences > 0) {
    return `${differences} ${differences === 1 ? "difference" : "differences"} between the nodes`;
  }
  return all === 1 ? "The node is ready" : `All ${all} nodes are ready and agree`;
}

interface Held {
  readonly url: string;
  readonly kek: PageKek;
}

/** Returns the KEKs of all nodes, each with the nodes that lack it or have it in another state. */
function keksOf(nodes: readonly FleetNode[]): TimedKek[] {
  const holders = new Map<string, Held[]>();
  const answering = nodes.filter(({ keyring }) => keyring !== undefined);
  for (const { url, keyring } of answering) {
    for (const kek of keyring?.keys ?? []) {
      const held = holders.get(kek.keyId) ?? [];
      held.push({ url, kek });
      holders.set(kek.keyId, held);
    }
  }
  return [...holders.values()].flatMap((held) => {
    const chosen = mostFrequent(held);
    if (chosen === undefined) return [];
    const missing = answering.filter(({ url }) => !held.some((one) => one.url === url));
    const failing = held.find(({ kek }) => kek.failure !== null);
    const remarks = [
      ...(missing.length === 0 ? [] : [`Missing on ${named(missing)}.`]),
      ...otherStates(held, chosen),
      ...(failing === undefined ? [] : [`On ${failing.url}:`]),
    ];
    const remark = remarks.length === 0 ? undefined : remarks.join(" ");
    return [{ ...chosen, failure: failing?.kek.failure ?? null, remark }];
  });
}

function mostFrequent(held: readonly Held[]): PageKek | undefined {
  const votes = ({ kek }: Held): number => held.filter((other) => other.kek.state === kek.state).length;
  return [...held].sort((one, other) => votes(other) - votes(one))[0]?.kek;
}

function otherStates(held: readonly Held[], chosen: PageKek): string[] {
  const states = new Set(held.map(({ kek }) => kek.state).filter((state) => state !== chosen.state));
  return [...states].map((state) => `${state} on ${named(held.filter(({ kek }) => kek.state === state))}.`);
}

function named(nodes: readonly { readonly url: string }[]): string {
  const names = nodes.slice(0, MAX_NAMED).map(({ url }) => originOf(url));
  return `${names.join(", ")}${nodes.length > MAX_NAMED ? ` and ${nodes.length - MAX_NAMED} more` : ""}`;
}

/** Returns the address without the path of the endpoint. */
function originOf(url: string): string {
  return url.replace(/\/keys$/u, "");
}

/** Returns a line that names nodes without the path of the endpoint. */
function shortened(line: string, nodes: readonly FleetNode[]): string {
  return nodes.reduce((text, { url }) => text.replaceAll(url, originOf(url)), line);
}

function nodeItem({ url, error, version, readiness, keyring, clockAheadMs }: FleetNode, now: number): Html {
  const state = error !== null ? "does not answer" : readiness?.ready === false ? "not ready" : "ready";
  const lines = readiness?.lines.filter((line) => line !== "ok") ?? [];
  const read = msOf(keyring?.readAt);
  return html`<li class="node">
    <h3>${originOf(url)} <span class="state ${state === "ready" ? "ok" : "fail"}">${state}</span></h3>
    ${error !== null && html`<p class="finding fail">${error.replace(`${url}: `, "")}</p>`}
    ${lines.length > 0 && findings(lines, readiness?.ready === false ? "fail" : "warn")}
    ${
      keyring !== undefined &&
      facts([
        ["Published", html`<code>${keyring.publishedKeyId ?? "nothing"}</code>`],
        ["Due", keyring.dueKeyId === null ? undefined : html`<code>${keyring.dueKeyId}</code>`],
        ["KEKs", keyring.keys.length],
        ["Token read", read === undefined ? "not yet" : relative(read, now)],
        ["Clock", clockAheadMs === null ? undefined : clock(clockAheadMs)],
        ["Version", version],
      ])
    }
  </li>`;
}

function clock(aheadMs: number): string {
  const seconds = (Math.abs(aheadMs) / 1_000).toFixed(1);
  return seconds === "0.0" ? "as here" : `${seconds} s ${aheadMs < 0 ? "behind" : "ahead"}`;
}
