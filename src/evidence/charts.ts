// The charts of the evidence page as inline SVG, with the scales and ticks of d3-scale, which needs no DOM. Their colours are in
// the page's style sheet.
import { scaleLinear, scaleUtc } from "d3-scale";
import { html, type Html } from "../page/html.js";

const WIDTH = 720;
const LEFT = 150;
const RIGHT = 40;
const ROW = 26;
const AXIS = 24;
const DAY_MS = 86_400_000;

/** The time in which a KEK encrypted, or will. */
export interface KekPeriod {
  readonly name: string;
  readonly state: string;
  /** ms since the epoch; undefined for a KEK without an activation instant. */
  readonly from: number | undefined;
  /** The activation of its successor; undefined for the last one. */
  readonly until: number | undefined;
}

/** Returns a bar for each KEK, with the instant at which each reaches the end of its cryptoperiod. */
export function periodChart(
  keks: readonly KekPeriod[],
  now: number,
  cryptoperiodMs: number | undefined,
): Html {
  const dated = keks.flatMap(({ from, ...kek }) => (from === undefined ? [] : [{ ...kek, from }]));
  if (dated.length === 0) return html`<p>No KEK has an activation instant.</p>`;
  const ends = dated.flatMap(({ from }) => [
    from,
    ...(cryptoperiodMs === undefined ? [] : [from + cryptoperiodMs]),
  ]);
  const from = Math.min(now, ...dated.map((kek) => kek.from)) - DAY_MS;
  const scale = scaleUtc()
    .domain([new Date(from), new Date(Math.max(now, ...ends) + DAY_MS)])
    .range([LEFT, WIDTH - RIGHT]);
  const x = (ms: number): number => Math.round(scale(new Date(ms)) * 10) / 10;
  const height = dated.length * ROW + AXIS;
  const format = scale.tickFormat(6);
  return html`<svg
    class="chart"
    viewBox="0 0 ${WIDTH} ${height}"
    role="img"
    aria-label="Time in which each KEK was active"
  >
    ${scale.ticks(6).map((tick) => mark(x(tick.getTime()), format(tick), height))}
    ${dated.map((kek, row) => bar(kek, row, x, now, cryptoperiodMs))}
    <line class="now" x1="${x(now)}" x2="${x(now)}" y1="0" y2="${height - AXIS}"></line>
  </svg>`;
}

/** Returns a vertical line with a text below it. */
function mark(x: number, text: string, height: number): Html {
  return html`<g class="tick">
    <line x1="${x}" x2="${x}" y1="0" y2="${height - AXIS}"></line>
    <text x="${x}" y="${height - 8}" text-anchor="middle">${text}</text>
  </g>`;
}

function bar(
  { name, state, from, until }: KekPeriod & { readonly from: number },
  row: number,
  x: (ms: number) => number,
  now: number,
  cryptoperiodMs: number | undefined,
): Html {
  const y = row * ROW + 4;
  const end = Math.max(from, Math.min(until ?? now, now));
  const limit = cryptoperiodMs === undefined ? undefined : x(from + cryptoperiodMs);
  return html`<text x="0" y="${y + 13}">${name}</text>
    <rect
      class="${state}"
      x="${x(from)}"
      y="${y}"
      width="${Math.max(2, x(end) - x(from))}"
      height="${ROW - 8}"
    ></rect>
    ${limit !== undefined && html`<line class="limit" x1="${limit}" x2="${limit}" y1="${y - 2}" y2="${y + ROW - 6}"></line>`}`;
}

/** A named number. */
export interface Amount {
  readonly name: string;
  readonly value: number;
}

/** Returns a bar for each amount. */
export function amountChart(amounts: readonly Amount[], what: string): Html {
  const height = amounts.length * ROW + AXIS;
  const scale = scaleLinear()
    .domain([0, Math.max(1, ...amounts.map(({ value }) => value))])
    .range([LEFT, WIDTH - 70]);
  const x = (value: number): number => Math.round(scale(value) * 10) / 10;
  const format = scale.tickFormat(5);
  return html`<svg class="chart" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${what}">
    ${scale.ticks(5).map((tick) => mark(x(tick), format(tick), height))}
    ${amounts.map(
      ({ name, value }, row) =>
        html`<text x="0" y="${row * ROW + 17}">${name}</text>
          <rect
            class="amount"
            x="${LEFT}"
            y="${row * ROW + 4}"
            width="${x(value) - LEFT}"
            height="${ROW - 8}"
          ></rect>
          <text x="${x(value) + 6}" y="${row * ROW + 17}">${value.toLocaleString("en-US")}</text>`,
    )}
  </svg>`;
}
