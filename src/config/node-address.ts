// The address of a node's plugin: the URL of its HTTP endpoints, as `--nodes` and the setting `nodes` name it.
import { invalid } from "./invalid.js";

/**
 * Returns the URL of the keyring that the plugin at an address such as http://127.0.0.1:8090 serves.
 * @throws KmsError CONFIG_INVALID
 */
export function parseNodeAddress(address: string): URL {
  // What precedes "@" may be a password, so the message does not repeat it.
  if (address.includes("@")) {
    throw invalid("names a user; give URLs without one, such as http://127.0.0.1:8090");
  }
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw invalid(`"${address}" is not a plugin address; give URLs such as http://127.0.0.1:8090`);
  }
  if (url.pathname === "/") url.pathname = "/keys";
  return url;
}

/** Returns the URLs of several addresses. @throws KmsError CONFIG_INVALID for an address that occurs twice, too */
export function parseNodeAddresses(addresses: readonly string[]): URL[] {
  const nodes = addresses.map(parseNodeAddress);
  if (new Set(nodes.map(String)).size < nodes.length) throw invalid("names a node twice");
  return nodes;
}
