// The name of one of several clusters.
import { invalid } from "./invalid.js";

/**
 * Returns a cluster's name: a DNS label (RFC 1123), so that it can be part of paths, metrics and commands.
 * @throws KmsError CONFIG_INVALID
 */
export function checkClusterName(text: string): string {
  if (/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(text)) return text;
  throw invalid(
    "cannot name a cluster; give 1 to 63 lower-case letters, digits and hyphens, such as tenant-a",
  );
}
