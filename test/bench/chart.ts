// The chart of the cold start: time per DEK seed against the HSM's delay, one line per mode.

import { parse, View, type Spec } from "vega";

export interface ColdStart {
  readonly mode: string;
  /** Added to every call into the HSM, in ms. */
  readonly delayMs: number;
  /** The time of each DEK seed, decrypted one after another. */
  readonly msPerSeed: number;
}

const byMode = { scale: "mode", field: "mode" };
const at = { x: { scale: "delay", field: "delayMs" }, y: { scale: "time", field: "msPerSeed" } };

const SCALES: NonNullable<Spec["scales"]> = [
  { name: "delay", type: "linear", range: "width", domain: { data: "points", field: "delayMs" } },
  {
    name: "time",
    type: "linear",
    range: "height",
    domain: { data: "points", field: "msPerSeed" },
    zero: true,
    nice: true,
  },
  { name: "mode", type: "ordinal", range: "category", domain: { data: "points", field: "mode" } },
];

const LINES: NonNullable<Spec["marks"]> = [
  {
    type: "group",
    from: { facet: { name: "line", data: "points", groupby: "mode" } },
    marks: [
      { type: "line", from: { data: "line" }, encode: { enter: { ...at, stroke: byMode } } },
      { type: "symbol", from: { data: "line" }, encode: { enter: { ...at, fill: byMode } } },
    ],
  },
];

/** Returns an SVG document. */
export async function coldStartChart(points: readonly ColdStart[], title: string): Promise<string> {
  const spec: Spec = {
    title,
    width: 480,
    height: 240,
    padding: 8,
    background: "white",
    data: [{ name: "points", values: points.map((point) => ({ ...point })) }],
    scales: SCALES,
    axes: [
      { scale: "delay", orient: "bottom", title: "delay of each call into the HSM, ms", grid: true },
      { scale: "time", orient: "left", title: "time for each DEK seed, ms", grid: true },
    ],
    legends: [{ stroke: "mode", title: "mode" }],
    marks: LINES,
  };
  return new View(parse(spec), { renderer: "none" }).toSVG();
}
