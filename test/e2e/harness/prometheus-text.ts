// Reads the Prometheus text format, as far as kube-apiserver and the plugin use it.

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export class Metrics {
  readonly samples: readonly Sample[];

  constructor(text: string) {
    this.samples = text.split("\n").flatMap((line) => parseLine(line) ?? []);
  }

  /** Returns the samples of one name whose labels include the given labels. */
  select(name: string, labels: Readonly<Record<string, string>> = {}): Sample[] {
    return this.samples.filter(
      (sample) =>
        sample.name === name &&
        Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
    );
  }

  /** Returns the sum of the selected samples; 0 if there are none. */
  sum(name: string, labels: Readonly<Record<string, string>> = {}): number {
    return this.select(name, labels).reduce((total, sample) => total + sample.value, 0);
  }
}

function parseLine(line: string): Sample | undefined {
  const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
  const [, name, labelText = "", value] = match ?? [];
  if (name === undefined || value === undefined) return undefined;
  const labels: Record<string, string> = {};
  for (const [, label, text] of labelText.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
    if (label !== undefined && text !== undefined) {
      labels[label] = text.replace(/\\(.)/g, (_, escaped: string) => (escaped === "n" ? "\n" : escaped));
    }
  }
  return { name, labels, value: value === "+Inf" ? Infinity : Number(value) };
}
