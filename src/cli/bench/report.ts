// The output of `kms-pkcs11 bench`: tables, or everything as JSON.
import type { CoreFigure } from "../../bench/core.js";
import type { Comparison, EndpointFigure } from "../../bench/endpoints.js";
import type { BenchResult } from "../../bench/result.js";
import type { Spread } from "../../bench/statistics.js";
import type { TokenFigure } from "../../bench/token.js";
import { formatJson, type OutputFormat, type Terminal } from "../output.js";
import { formatTable } from "../table.js";
import type { BenchOutput } from "../output-schema/bench.js";

/** Prints the result. */
export function showBench(result: BenchResult, output: OutputFormat, terminal: Terminal): void {
  if (output === "json") {
    terminal.out(formatJson(result satisfies BenchOutput));
    return;
  }
  const { machine, settings, version } = result;
  terminal.out(
    [
      `kms-pkcs11 ${version}, ${machine.time}`,
      `${machine.cores} cores ${machine.cpu}, ${machine.memoryMib} MiB, ${machine.system}, load ${machine.loadAverage}`,
      `Node.js ${machine.node}, OpenSSL ${machine.openssl}`,
      `medians of ${settings.repetitions} repetitions of ${settings.turnMs} ms, quartiles in brackets; the client runs on the same machine`,
    ].join("\n"),
  );
  const sections = [
    ["AES-256-GCM core", coreTable(result.core)],
    ["Token", tokenTable(result.token)],
    ["Plugin", pluginTable(result.plugin)],
    ["Ratio to the other plugin", versusTable(result.versus)],
  ] as const;
  for (const [title, table] of sections) if (table !== undefined) terminal.out(`\n${title}\n${table}`);
}

function withSpread({ median, low, high }: Spread, digits: number): string {
  return `${median.toFixed(digits)} (${low.toFixed(digits)} to ${high.toFixed(digits)})`;
}

function coreTable(figures: readonly CoreFigure[]): string | undefined {
  if (figures.length === 0) return undefined;
  return formatTable(
    ["BYTES", "OPERATION", "BY", "NS", "MB/S"],
    figures.map(({ bytes, operation, implementation, nsPerOperation, mbPerSecond }) => [
      String(bytes),
      operation,
      implementation,
      withSpread(nsPerOperation, 0),
      mbPerSecond.toFixed(0),
    ]),
  );
}

function tokenTable(figures: readonly TokenFigure[]): string | undefined {
  if (figures.length === 0) return undefined;
  return formatTable(
    ["MECHANISM", "OPERATION", "CALLERS", "SESSIONS", "P50 MS", "P99 MS", "PER SECOND"],
    figures.map(({ mechanism, operation, concurrency, sessions, ...figure }) => [
      mechanism,
      operation,
      String(concurrency),
      String(sessions),
      ...timing(figure),
    ]),
  );
}

function timing({ p50Ms, p99Ms, perSecond }: Pick<TokenFigure, "p50Ms" | "p99Ms" | "perSecond">): string[] {
  return [withSpread(p50Ms, 3), withSpread(p99Ms, 2), withSpread(perSecond, 0)];
}

function pluginTable(figures: readonly EndpointFigure[]): string | undefined {
  if (figures.length === 0) return undefined;
  return formatTable(
    ["PLUGIN", "OPERATION", "CALLERS", "P50 MS", "P99 MS", "PER SECOND"],
    figures.map(({ target, operation, concurrency, ...figure }) => [
      target,
      operation,
      String(concurrency),
      ...timing(figure),
    ]),
  );
}

function versusTable(comparisons: readonly Comparison[]): string | undefined {
  if (comparisons.length === 0) return undefined;
  return formatTable(
    ["OPERATION", "CALLERS", "P50", "THROUGHPUT"],
    comparisons.map(({ operation, concurrency, p50Ratio, throughputRatio }) => [
      operation,
      String(concurrency),
      withSpread(p50Ratio, 2),
      withSpread(throughputRatio, 2),
    ]),
  );
}
