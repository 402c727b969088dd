// The state directory of a token's logins.
import type { Settings } from "./settings.js";

/** Returns where refused PINs are recorded, and attempts locked: one place for all clusters, since they share tokens. */
export function loginDirectory({ cluster, stateDir }: Settings): string | undefined {
  return cluster === undefined ? stateDir : cluster.commonStateDir;
}
