// The HTTP proxy that the environment sets for an API server, by the rules of Go programs
// (golang.org/x/net/http/httpproxy): HTTPS_PROXY or HTTP_PROXY by the server's scheme; NO_PROXY with names, suffixes,
// addresses and networks; never a proxy for loopback.
import { BlockList, isIP } from "node:net";

/** Returns the URL of the proxy for `server`; undefined if it is reached directly. */
export function proxyFromEnvironment(server: URL, env: NodeJS.ProcessEnv): string | undefined {
  const isTls = server.protocol === "https:";
  const proxy = isTls ? setting(env, "HTTPS_PROXY") : setting(env, "HTTP_PROXY");
  if (proxy === "" || isDirect(server, setting(env, "NO_PROXY"))) return undefined;
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(proxy) ? proxy : `http://${proxy}`;
}

function setting(env: NodeJS.ProcessEnv, name: string): string {
  const upper = env[name] ?? "";
  return upper === "" ? (env[name.toLowerCase()] ?? "") : upper;
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

function isDirect(server: URL, noProxy: string): boolean {
  const host = server.hostname.replace(/^\[|\]$/g, "").toLowerCase();
  if (host === "localhost" || isIn(LOOPBACK, host)) return true;
  const port = server.port === "" ? (server.protocol === "https:" ? "443" : "80") : server.port;
  return noProxy.split(",").some((entry) => matches(entry.trim().toLowerCase(), host, port));
}

/** Returns whether an entry of NO_PROXY applies to a host. */
function matches(entry: string, host: string, port: string): boolean {
  if (entry === "") return false;
  if (entry === "*") return true;
  const network = networkOf(entry);
  if (network !== undefined) return isIn(network, host);
  const { name, port: entryPort } = splitPort(entry);
  if (name === "" || (entryPort !== undefined && entryPort !== port)) return false;
  if (isIP(name) !== 0) return isIP(host) !== 0 && isIn(addressOf(name), host);
  const suffix = name.startsWith("*.") ? name.slice(1) : name;
  return suffix.startsWith(".") ? host.endsWith(suffix) : host === suffix || host.endsWith(`.${suffix}`);
}

function networkOf(entry: string): BlockList | undefined {
  const [address = "", bits = "", ...rest] = entry.split("/");
  const version = isIP(address);
  if (version === 0 || rest.length > 0 || !/^\d{1,3}$/.test(bits)) return undefined;
  if (Number(bits) > (version === 4 ? 32 : 128)) return undefined;
  const network = new BlockList();
  network.addSubnet(address, Number(bits), version === 4 ? "ipv4" : "ipv6");
  return network;
}

function splitPort(entry: string): { readonly name: string; readonly port: string | undefined } {
  if (isIP(entry) !== 0) return { name: entry, port: undefined };
  const [, bracketed, plain, port] = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d+))?$/.exec(entry) ?? [];
  return { name: bracketed ?? plain ?? entry, port };
}

function addressOf(address: string): BlockList {
  const list = new BlockList();
  list.addAddress(address, isIP(address) === 4 ? "ipv4" : "ipv6");
  return list;
}

function isIn(list: BlockList, host: string): boolean {
  const version = isIP(host);
  return version !== 0 && list.check(host, version === 4 ? "ipv4" : "ipv6");
}
