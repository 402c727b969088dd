// The address of a node's plugin, as `--nodes` and the setting `nodes` name it: the URL of its HTTP endpoints, or
// ssh://USER@HOST:PORT/ADDRESS:PORT for endpoints on the node's own loopback, which are reached through a tunnel of ssh.
import { isIPv6 } from "node:net";
import { formatHttpAddress, parseHttpAddress, USUAL_HTTP, type HttpAddress } from "./http-address.js";
import { invalid } from "./invalid.js";

/** What ssh connects to, and what it reaches from there. */
export interface SshNode {
  readonly host: string;
  /** Undefined for ssh's own choice. */
  readonly user: string | undefined;
  /** Undefined for ssh's own choice. */
  readonly port: string | undefined;
  /** The plugin's HTTP address on the node, such as 127.0.0.1:8090. */
  readonly http: string;
  /** Path and query of the HTTP request. */
  readonly path: string;
}

/**
 * Returns the URL of the keyring that the plugin at an address serves: http://127.0.0.1:8090/keys, or
 * ssh://root@cp-2/127.0.0.1:8090/keys.
 * @param http where the nodes serve HTTP, for an ssh:// address that does not say it; undefined if it is not known
 * @throws KmsError CONFIG_INVALID
 */
export function parseNodeAddress(address: string, http?: HttpAddress): URL {
  if (/^ssh:/iu.test(address)) return parseSshAddress(address, http);
  // What precedes "@" may be a password, so the message does not repeat it.
  if (address.includes("@")) {
    throw invalid("names a user; give URLs without one, such as http://127.0.0.1:8090");
  }
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw invalid(
      `"${address}" is not a plugin address; give URLs such as http://127.0.0.1:8090 or ssh://root@cp-2`,
    );
  }
  if (url.pathname === "/") url.pathname = "/keys";
  return url;
}

/**
 * Returns the URLs of several addresses.
 * @param http as for `parseNodeAddress`
 * @throws KmsError CONFIG_INVALID for an address that occurs twice, too
 */
export function parseNodeAddresses(addresses: readonly string[], http?: HttpAddress): URL[] {
  const nodes = addresses.map((address) => parseNodeAddress(address, http));
  if (new Set(nodes.map(String)).size < nodes.length) throw invalid("names a node twice");
  return nodes;
}

/**
 * Returns the URL of one cluster's keyring, if the node's plugin serves several. An address that names a cluster itself, such
 * as one of another configuration, stays as it is.
 */
export function ofCluster(url: URL, cluster: string | undefined): URL {
  if (cluster === undefined || url.searchParams.has("cluster")) return url;
  const own = new URL(url);
  own.searchParams.set("cluster", cluster);
  return own;
}

/** Returns the URL of another endpoint of a node, for the same cluster. */
export function endpointOf(url: URL, name: "readyz" | "metrics"): URL {
  const other = new URL(name, url);
  other.search = url.search;
  return other;
}

/** Returns the address that a command takes for such a URL. An ssh:// address cannot name a cluster; --cluster does. */
export function formatNodeAddress(url: URL): string {
  const own = new URL(url);
  if (own.protocol === "ssh:") own.search = "";
  return own.href.replace(/\/keys(?=\?|$)/u, "");
}

/** Returns the parts of an ssh:// URL that `parseNodeAddress` made, or a URL relative to it; undefined for others. */
export function sshNodeOf(url: URL): SshNode | undefined {
  if (url.protocol !== "ssh:") return undefined;
  const [, http = "", ...path] = url.pathname.split("/");
  return {
    host: url.hostname.replace(/^\[|\]$/gu, ""),
    user: url.username === "" ? undefined : url.username,
    port: url.port === "" ? undefined : url.port,
    http,
    path: `/${path.join("/")}${url.search}`,
  };
}

const SSH_ADDRESS = /^ssh:\/\/(?:([^@/]*)@)?(\[[^\]]*\]|[^:/@[\]]*)(?::(\d{1,5}))?(?:\/(.*))?$/iu;
/** Neither begins with "-", which ssh would read as an option, nor contains what a shell would interpret. */
const USER = /^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}$/u;
const HOST = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}$/u;

function parseSshAddress(address: string, configured: HttpAddress | undefined): URL {
  const [matched, user, host = "", port, path = ""] = SSH_ADDRESS.exec(address) ?? [];
  const isHost = host.startsWith("[") ? isIPv6(host.slice(1, -1)) : HOST.test(host);
  const isPort = port === undefined || (Number(port) >= 1 && Number(port) <= 65_535);
  if (matched === undefined || !isHost || !isPort || (user !== undefined && !USER.test(user))) {
    // What precedes "@" may be a password, so the message does not repeat it.
    throw invalid(
      "names a node that ssh cannot connect to; give ssh://HOST, ssh://USER@HOST or ssh://USER@HOST:PORT, without a password",
    );
  }
  const at = `${user === undefined ? "" : `${user}@`}${host}${port === undefined ? "" : `:${port}`}`;
  return new URL(`ssh://${at}/${remoteAddress(path.replace(/\/keys$|\/$/u, ""), configured)}/keys`);
}

function remoteAddress(given: string, configured: HttpAddress | undefined): string {
  // Port 0 lets each node's system choose one.
  const usual = configured === undefined || configured.port === 0 ? USUAL_HTTP : configured;
  return formatHttpAddress(given === "" ? usual : explicitAddress(given));
}

const REMOTE =
  "does not say where the node's plugin serves HTTP; give its loopback address and port, as in ssh://root@cp-2/127.0.0.1:8090";

function explicitAddress(text: string): HttpAddress {
  try {
    const address = parseHttpAddress(text);
    if (address !== undefined && address.port !== 0) return address;
  } catch {
    // The message of the setting http.address would not fit.
  }
  throw invalid(REMOTE);
}
