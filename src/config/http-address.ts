// The address of the HTTP endpoints: loopback or off. They carry no authentication, and probes and scrapers
// of a control-plane node reach loopback (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3).
import { isIPv4 } from "node:net";
import { KmsError } from "../errors.js";

export interface HttpAddress {
  /** An IP address. */
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
}

/** Returns undefined for "off". @throws KmsError CONFIG_INVALID */
export function parseHttpAddress(text: string): HttpAddress | undefined {
  if (text === "off") return undefined;
  const [, name, digits] = /^(\[[0-9a-fA-F:.]+\]|[^:[\]]+):([0-9]{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (name === undefined || port > 65_535) {
    throw invalid("is no address with a port from 0 to 65535; give one such as 127.0.0.1:8090, or off");
  }
  const host = name === "localhost" ? "127.0.0.1" : name === "[::1]" ? "::1" : name;
  if (host === "::1" || (isIPv4(host) && host.startsWith("127."))) return { host, port };
  throw invalid(
    `is not a loopback address; give 127.0.0.1:${digits ?? "8090"}, [::1]:${digits ?? "8090"} or off`,
  );
}

function invalid(message: string): KmsError {
  return new KmsError("CONFIG_INVALID", message);
}
