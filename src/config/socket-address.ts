// The unix socket's address, mode and group in the configuration. kube-apiserver accepts "unix:///path", and
// "unix:///@name" for a socket in Linux's abstract namespace (unix(7)).
import { realpathSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { invalid } from "./invalid.js";

export interface SocketAddress {
  /** An absolute path; for an abstract socket its name without the "@". */
  readonly path: string;
  readonly abstract: boolean;
}

/** Returns the address as a URL, as kube-apiserver and KmsClient take it. */
export function formatSocketAddress({ path, abstract }: SocketAddress): string {
  return abstract ? `unix:///@${path}` : `unix://${path}`;
}

/** The size of sun_path, less the byte that ends a path or begins an abstract name. */
const MAX_PATH_BYTES = 107;

/** Returns the address that a path, a unix:// URL or @name stands for. @throws KmsError CONFIG_INVALID */
export function parseSocketAddress(text: string): SocketAddress {
  const stripped = text.startsWith("unix:///") ? text.slice("unix://".length) : text;
  const path = stripped.startsWith("/@") && text !== stripped ? stripped.slice(1) : stripped;
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_PATH_BYTES) {
    throw invalid(
      `is ${bytes} bytes long; give at most ${MAX_PATH_BYTES}, the limit of a unix socket's address`,
    );
  }
  const named = /^(@[^\0]+|\/[^\0]*[^\0/])$/.test(path);
  if (!named) {
    throw invalid("is not a unix socket's address; give one such as unix:///run/kms-pkcs11/kms.sock");
  }
  const abstract = path.startsWith("@");
  return { path: abstract ? path.slice(1) : path, abstract };
}

/**
 * Returns the socket that kube-apiserver dials for an endpoint: the path of the URL as Go parses it, whatever precedes
 * it; undefined if the endpoint is not such a URL or has no path.
 */
export function socketOfEndpoint(endpoint: string): SocketAddress | undefined {
  const [, authority = "", path = ""] =
    /^unix:(?:\/\/([^/?#]*)|(?!\/\/))(\/[^?#]+)(?:[?#].*)?$/is.exec(endpoint) ?? [];
  // eslint-disable-next-line no-control-regex -- Go refuses them
  if (path === "" || /[\0-\x1f\x7f]/.test(endpoint) || /[\s<>"\\^`{}|[\]%]/.test(authority)) return undefined;
  try {
    const decoded = decodeURIComponent(path);
    return decoded.startsWith("/@")
      ? { path: decoded.slice(2), abstract: true }
      : { path: decoded, abstract: false };
  } catch {
    return undefined;
  }
}

/** Returns whether two addresses name the same socket, even by different spellings, symbolic links or hard links. */
export function sameSocket(one: SocketAddress, other: SocketAddress): boolean {
  if (one.abstract || other.abstract) return one.abstract === other.abstract && one.path === other.path;
  return identityOf(one.path) === identityOf(other.path);
}

/** Returns device and inode of an existing file; otherwise the path, resolved as far as it exists. */
function identityOf(path: string): string {
  const clean = resolve(path);
  try {
    const { dev, ino } = statSync(clean);
    return `${dev}:${ino}`;
  } catch {
    return join(realFolder(dirname(clean)), basename(clean));
  }
}

function realFolder(folder: string): string {
  try {
    return realpathSync(folder);
  } catch {
    const parent = dirname(folder);
    return parent === folder ? folder : join(realFolder(parent), basename(folder));
  }
}

/**
 * Returns the permission bits.
 * @throws KmsError CONFIG_INVALID unless only the owner and perhaps the group have access
 */
export function parseSocketMode(text: string): number {
  const mode = /^0?[0-7]{3}$/.test(text) ? Number.parseInt(text, 8) : Number.NaN;
  if (Number.isNaN(mode)) throw invalid('is not an octal mode; give "0600", or "0660" with socket.group');
  if ((mode & 0o007) !== 0) {
    throw invalid('gives every user access; give "0600", or "0660" with socket.group');
  }
  if ((mode & 0o117) !== 0 || (mode & 0o600) !== 0o600) {
    throw invalid('is not a usable socket mode; give "0600", or "0660" with socket.group');
  }
  return mode;
}

/** Returns the text itself. @throws KmsError CONFIG_INVALID unless it can be a group's name or number */
export function checkGroup(text: string): string {
  if (/^([A-Za-z_][A-Za-z0-9_.-]{0,31}|[0-9]{1,10})$/.test(text)) return text;
  throw invalid("is not a group; give a name such as kms, or a gid");
}
