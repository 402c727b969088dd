// The address of a syslog receiver: a socket in the file system, or a server that is reached over TLS (RFC 5425). Plain TCP and UDP
// are refused, since they would let others on the network read and change the audit log.
import { isIPv6 } from "node:net";
import { invalid } from "./invalid.js";
import { checkAbsolutePath } from "./pin-source-name.js";

export type SyslogAddress =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tls"; readonly host: string; readonly port: number };

/** Assigned to syslog over TLS (RFC 5425 section 4.1). */
const TLS_PORT = 6514;
/** Longest path of a socket (sun_path), without its final NUL. */
const MAX_SOCKET_PATH = 107;

/** Returns the address. @throws KmsError CONFIG_INVALID */
export function parseSyslogAddress(text: string): SyslogAddress {
  if (text.startsWith("/")) {
    if (Buffer.byteLength(text) > MAX_SOCKET_PATH) throw invalid("is too long for the path of a socket");
    return { kind: "unix", path: checkAbsolutePath(text) };
  }
  const [, name, digits] =
    /^tls:\/\/(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]{0,252})(?::([0-9]{1,5}))?$/.exec(text) ?? [];
  const port = digits === undefined ? TLS_PORT : Number(digits);
  const host = name?.replace(/^\[|\]$/g, "");
  const isValid =
    host !== undefined && port > 0 && port <= 65_535 && (!name?.startsWith("[") || isIPv6(host));
  if (isValid) return { kind: "tls", host, port };
  throw invalid("is not a syslog address; give a socket such as /dev/log, or tls://HOST or tls://HOST:PORT");
}
