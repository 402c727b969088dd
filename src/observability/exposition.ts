// Merges texts in the OpenMetrics format, in which a metric's series must be together: those of several registries are put
// under one heading.

/** Returns one text with the series of all. */
export function mergeExpositions(texts: readonly string[]): string {
  const heads = new Map<string, string[]>();
  const series = new Map<string, string[]>();
  for (const text of texts) {
    let name = "";
    let isKnown = false;
    for (const line of text.split("\n")) {
      if (line === "" || line === "# EOF") continue;
      if (!line.startsWith("# ")) {
        series.get(name)?.push(line);
        continue;
      }
      const [, , named = ""] = line.split(" ", 3);
      if (named !== name) {
        name = named;
        isKnown = heads.has(name);
        if (!isKnown) series.set(name, []);
      }
      if (!isKnown) heads.set(name, [...(heads.get(name) ?? []), line]);
    }
  }
  const lines = [...heads].flatMap(([name, head]) => [...head, ...(series.get(name) ?? [])]);
  return `${lines.join("\n")}\n# EOF\n`;
}
