// Which HTTP proxy the environment sets for an API server, as Go programs read it (golang.org/x/net/http/httpproxy):
// HTTPS_PROXY or HTTP_PROXY by the server's scheme, NO_PROXY with names, suffixes, addresses and networks; never one
// for loopback.
import { BlockList, isIP } from "node:net";

/** Returns the proxy's URL; undefined for none. */
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
  return noProxy.split(",").some((entry) => isMeant(entry.trim().toLowerCase(), host, port));
}

/** Whether one entry of NO_PROXY means a host. */
function isMeant(entry: string, host: string, port: string): boolean {
  if (entry === "") return false;
  if (entry === "*") return true;
  const network = networkOf(entry);
  if (network !== undefined) return isIn(network, host);
  const { name, wanted } = splitPort(entry);
  if (name === "" || (wanted !== undefined && wanted !== port)) return false;
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

function splitPort(entry: string): { readonly name: string; readonly wanted: string | undefined } {
  if (isIP(entry) !== 0) return { name: entry, wanted: undefined };
  const [, bracketed, plain, wanted] = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d+))?$/.exec(entry) ?? [];
  return { name: bracketed ?? plain ?? entry, wanted };
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
