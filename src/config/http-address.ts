// The address of the HTTP endpoints: loopback or off. The endpoints have no authentication; probes and scrapers on a
// control-plane node can reach loopback (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3).
import { isIPv4 } from "node:net";
import { invalid } from "./invalid.js";

export interface HttpAddress {
  /** An IP address. */
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
}

/** Where a plugin of the packages and templates serves HTTP. */
export const USUAL_HTTP: HttpAddress = { host: "127.0.0.1", port: 8090 };

/** Returns the address as it is written in a URL: 127.0.0.1:8090 or [::1]:8090. */
export function formatHttpAddress({ host, port }: HttpAddress): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** Returns the address, or undefined for "off". @throws KmsError CONFIG_INVALID unless it is a loopback address */
export function parseHttpAddress(text: string): HttpAddress | undefined {
  if (text === "off") return undefined;
  const [, name, digits] = /^(\[[0-9a-fA-F:.]+\]|[^:[\]]+):([0-9]{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (name === undefined || port > 65_535) {
    throw invalid("is not an address with a port from 0 to 65535; give one such as 127.0.0.1:8090, or off");
  }
  const host = name === "localhost" ? "127.0.0.1" : name === "[::1]" ? "::1" : name;
  if (host === "::1" || (isIPv4(host) && host.startsWith("127."))) return { host, port };
  throw invalid(
    `is not a loopback address; give 127.0.0.1:${digits ?? "8090"}, [::1]:${digits ?? "8090"} or off`,
  );
}
