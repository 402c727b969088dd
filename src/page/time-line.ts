// The KEKs on a time line: a bar for each, from its activation to that of its successor. Positions are attributes of SVG
// elements, since the pages' policy allows no styles in attributes.
import { html, type Html } from "./html.js";
import { msOf, relative, utc } from "./instants.js";
import type { PageKek } from "./page-facts.js";

/** Retired KEKs without a finding that a page shows; the rest is counted. */
const MAX_RETIRED = 12;
/** KEKs that a page shows in total, whatever a token holds. */
const MAX_SHOWN = 60;
const HOUR_MS = 3_600_000;

/** A KEK with what else a page says of it. */
export interface TimedKek extends PageKek {
  /** A remark such as the nodes that lack it. */
  readonly remark?: string | undefined;
}

interface Range {
  readonly from: number;
  readonly to: number;
  readonly now: number;
}

interface Bar {
  readonly kek: TimedKek;
  /** ms since the epoch; -Infinity for a plain label. */
  readonly start: number;
  /** The activation of the next KEK; Infinity for the last. */
  readonly end: number;
}

/** Returns the list of KEKs, latest first. @param now ms since the epoch */
export function timeLine(keks: readonly TimedKek[], now: number): Html {
  const { bars, hidden } = chosenBars(keks);
  if (bars.length === 0) {
    return html`<p>There are no KEKs. Create one with <code>kms-pkcs11 keys create</code>.</p>`;
  }
  const range = rangeOf(bars, now);
  return html`${axis(range)}
    <ol class="keks">
      ${bars.map((bar) => row(bar, range))}
    </ol>
    ${hidden > 0 && html`<p class="quiet">and ${hidden} more, in <a href="/keys">/keys</a></p>`}`;
}

function chosenBars(keks: readonly TimedKek[]): { bars: Bar[]; hidden: number } {
  const sorted = keks
    .map((kek) => ({ kek, start: msOf(kek.activation) ?? -Infinity }))
    .sort((one, other) => (one.start === other.start ? 0 : other.start - one.start));
  let retired = 0;
  const bars = sorted
    .map(({ kek, start }, at) => ({ kek, start, end: sorted[at - 1]?.start ?? Infinity }))
    .filter(({ kek }) => kek.state !== "retired" || kek.failure !== null || ++retired <= MAX_RETIRED)
    .slice(0, MAX_SHOWN);
  return { bars, hidden: keks.length - bars.length };
}

function rangeOf(bars: readonly Bar[], now: number): Range {
  const starts = bars.map(({ start }) => start).filter(Number.isFinite);
  const first = Math.min(now, ...starts);
  const last = Math.max(now, ...starts);
  const span = Math.max(last - first, HOUR_MS);
  return { from: first - span * 0.06, to: last + span * 0.12, now };
}

/** Returns a position on the line in percent. */
function at(instant: number, { from, to }: Range): number {
  const part = (Math.min(Math.max(instant, from), to) - from) / (to - from);
  return Math.round(part * 10_000) / 100;
}

function axis(range: Range): Html {
  const now = at(range.now, range);
  const day = (instant: number): string => new Date(instant).toISOString().slice(0, 16).replace("T", " ");
  return html`<svg class="axis" width="100%" height="34" aria-hidden="true">
    <line x1="0" x2="100%" y1="33" y2="33"></line>
    <line class="now" x1="${now}%" x2="${now}%" y1="30" y2="34"></line>
    <text class="now" x="${now}%" y="11" text-anchor="${now > 90 ? "end" : now < 10 ? "start" : "middle"}">
      now
    </text>
    <text x="0" y="27">${day(range.from)}</text>
    <text x="100%" y="27" text-anchor="end">${day(range.to)}</text>
  </svg>`;
}

function row({ kek, start, end }: Bar, range: Range): Html {
  const { keyId, state, label, failure, remark } = kek;
  return html`<li class="kek ${state}">
    <p class="name"><span class="state ${state}">${state}</span> <code>${keyId}</code></p>
    ${bar({ kek, start, end }, range)}
    <p class="facts">
      ${when(kek, start, range.now)} <span class="label">label <bdi>${label}</bdi></span>
      ${failure === null && selfTest(kek, range.now)}
    </p>
    ${failure !== null && html`<p class="finding fail">Self-test failed: ${failure}</p>`}
    ${remark !== undefined && html`<p class="finding warn">${remark}</p>`}
  </li>`;
}

function when({ state }: TimedKek, start: number, now: number): Html {
  if (start === -Infinity) return html`<span>no activation instant</span>`;
  return html`<span>${beginningOf(state, start, now)} ${utc(start)}, ${relative(start, now)}</span>`;
}

function beginningOf(state: TimedKek["state"], start: number, now: number): string {
  if (state === "due") return "in use from the next Status call on; due since";
  if (state !== "standby") return "activated";
  return start > now ? "activates" : "not in use yet, but due since";
}

function selfTest({ provenAt }: TimedKek, now: number): Html {
  const proven = msOf(provenAt);
  return proven === undefined
    ? html`<span>not tested yet</span>`
    : html`<span>self-test passed ${relative(proven, now)}</span>`;
}

/** A KEK in use has a solid bar until now, and a light one for the time that lies ahead. */
function bar({ kek, start, end }: Bar, range: Range): Html {
  const from = at(start, range);
  const to = at(end, range);
  const now = at(range.now, range);
  const past = Math.max(0, Math.min(now, to) - from);
  const ahead = to - Math.max(now, from);
  const isUsedAhead = ahead > 0 && kek.state !== "retired";
  return html`<svg class="bar" width="100%" height="10" aria-hidden="true">
    ${past > 0 && html`<rect class="past" x="${from}%" width="${Math.max(past, 0.4)}%" y="1" height="8" rx="2"></rect>`}
    ${
      isUsedAhead &&
      html`<rect class="ahead" x="${Math.max(now, from)}%" width="${ahead}%" y="1" height="8" rx="2"></rect>`
    }
    <line class="now" x1="${now}%" x2="${now}%" y1="0" y2="10"></line>
  </svg>`;
}
