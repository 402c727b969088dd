// Reads single values from a text of metrics in the OpenMetrics format, so that the pages show nothing that /metrics
// does not give.

/** Longest text of metrics that is read, in UTF-16 code units; the rest is ignored. */
const MAX_LENGTH = 1 << 20;
const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{([^\n]*)\})? (\S+)/u;

interface Sample {
  readonly labels: string;
  readonly value: number;
}

/** The samples of a text of metrics. */
export class MetricValues {
  readonly #samples = new Map<string, Sample[]>();

  constructor(text: string) {
    for (const line of text.slice(0, MAX_LENGTH).split("\n")) {
      const [, name, labels = "", value] = SAMPLE.exec(line) ?? [];
      if (name === undefined || value === undefined) continue;
      const samples = this.#samples.get(name) ?? [];
      samples.push({ labels, value: Number(value) });
      this.#samples.set(name, samples);
    }
  }

  /** Returns the sum of the samples whose labels contain `label`; undefined if there are none, or it is not a number. */
  sum(name: string, label = ""): number | undefined {
    const chosen = (this.#samples.get(name) ?? []).filter(({ labels }) => labels.includes(label));
    const sum = chosen.reduce((total, { value }) => total + value, 0);
    return chosen.length === 0 || !Number.isFinite(sum) ? undefined : sum;
  }
}
