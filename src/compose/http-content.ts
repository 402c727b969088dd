// Gives the HTTP endpoints their content. The page for people is loaded by its first request, and nothing else needs it.
import type { Settings } from "../config/settings.js";
import type { HttpContent } from "../observability/http.js";
import type { Metrics } from "../observability/metrics.js";
import type { PluginPage } from "../page/plugin-page.js";
import { cryptoperiodFinding } from "../provider/cryptoperiod.js";
import type { Readiness } from "../provider/readiness.js";
import type { RunningProvider } from "../provider/running-provider.js";
import type { RunningServer } from "../server/server.js";
import type { RunningUnlock } from "../server/unlock.js";
import { VERSION } from "../version.js";

/** What all clusters have in common: the sockets on which operators unlock tokens, and the lock. */
export interface PluginSockets {
  readonly unlock: RunningUnlock[];
  readonly lock: { readonly finding: string | undefined };
}

/** The sockets whose files other processes may remove or replace. */
export interface Sockets extends PluginSockets {
  readonly server: RunningServer;
}

/**
 * Returns the readiness of the provider and the socket. An operator who cannot submit a PIN does not make it unready.
 */
export function readinessOf(
  running: RunningProvider,
  { server, unlock, lock }: Sockets,
  cryptoperiodMs: number | undefined,
): Readiness {
  const { ready, lines } = running.readiness();
  const findings = [
    ...unlock.flatMap((socket) => socket.problem() ?? []),
    ...ageFindings(running, cryptoperiodMs),
  ];
  const problems = [lock.finding ?? [], server.socketProblem() ?? []].flat();
  if (problems.length === 0) return { ready, lines: [...lines, ...findings] };
  return { ready: false, lines: [...problems, ...(ready ? [] : lines), ...findings] };
}

function ageFindings(running: RunningProvider, cryptoperiodMs: number | undefined): string[] {
  return running.keys().flatMap(({ keyId, state, activation }) => {
    const instant = activation === null ? undefined : Date.parse(activation);
    const finding = state === "active" && cryptoperiodFinding(instant, Date.now(), cryptoperiodMs);
    return typeof finding === "string" ? [`KEK ${keyId}: ${finding}`] : [];
  });
}

/** Returns the functions that render the endpoints. */
export function httpContent(
  { stateDir, cryptoperiodMs }: Settings,
  running: RunningProvider,
  sockets: Sockets,
  metrics: Pick<Metrics, "text" | "contentType">,
): HttpContent {
  let page: PluginPage | undefined;
  return {
    readiness: () => readinessOf(running, sockets, cryptoperiodMs),
    keys: (refresh) => running.keyring(refresh),
    metrics: () => metrics.text(),
    metricsType: metrics.contentType,
    page: async () => {
      page ??= new (await import("../page/plugin-page.js")).PluginPage(VERSION, stateDir);
      const readiness = readinessOf(running, sockets, cryptoperiodMs);
      return page.render({ readiness, keyring: running.keyring(), metrics: await metrics.text() });
    },
  };
}
