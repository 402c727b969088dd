// Which of several clusters a command means.
import { KmsError } from "../errors.js";
import type { Configuration } from "./settings.js";
import { similarName } from "./similar-name.js";

/** Maximum number of names in a message. */
const MAX_NAMES = 20;

/** Returns the configuration of a cluster. @throws KmsError CONFIG_INVALID that names the clusters */
export function chooseCluster(
  configurations: readonly Configuration[],
  wanted: string | undefined,
): Configuration {
  const names = configurations.flatMap(({ settings }) => settings.cluster?.name ?? []);
  const [only] = configurations;
  if (names.length === 0 && only !== undefined) {
    if (wanted === undefined) return only;
    throw new KmsError("CONFIG_INVALID", "--cluster: the configuration names no clusters; leave it out");
  }
  if (wanted === undefined) {
    throw new KmsError(
      "CONFIG_INVALID",
      `--cluster: is missing, and the configuration names several clusters; give one of ${listed(names)}`,
    );
  }
  const chosen = configurations.find(({ settings }) => settings.cluster?.name === wanted);
  if (chosen !== undefined) return chosen;
  const similar = similarName(wanted, names);
  const hint = similar === undefined ? `give one of ${listed(names)}` : `did you mean ${similar}?`;
  throw new KmsError("CONFIG_INVALID", `--cluster: the configuration names no such cluster; ${hint}`);
}

function listed(names: readonly string[]): string {
  const more = names.length - MAX_NAMES;
  return `${names.slice(0, MAX_NAMES).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}
