// The unix socket's address, mode and group as the configuration writes them. kube-apiserver takes
// "unix:///path", and "unix:///@name" for a socket in Linux's abstract namespace (unix(7)).
import { realpathSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { KmsError } from "../errors.js";

export interface SocketAddress {
  /** An absolute path; of an abstract socket its name without the "@". */
  readonly path: string;
  readonly abstract: boolean;
}

/** Bytes of sun_path less the byte that ends a path or begins an abstract name. */
const MAX_PATH_BYTES = 107;

/** @throws KmsError CONFIG_INVALID */
export function parseSocketAddress(text: string): SocketAddress {
  const stripped = text.startsWith("unix:///") ? text.slice("unix://".length) : text;
  const path = stripped.startsWith("/@") && text !== stripped ? stripped.slice(1) : stripped;
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_PATH_BYTES) {
    throw invalid(
      `is ${bytes} bytes long; give at most ${MAX_PATH_BYTES}, which is what a unix socket's address holds`,
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
 * Returns the socket that kube-apiserver dials for an endpoint: the path of the URL as Go parses it, whatever precedes it;
 * undefined if the endpoint is not such a URL or has no path.
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

/** Returns whether two addresses are one socket, by another name, a symbolic link on the way or a hard link. */
export function sameSocket(one: SocketAddress, other: SocketAddress): boolean {
  if (one.abstract || other.abstract) return one.abstract === other.abstract && one.path === other.path;
  return placeOf(one.path) === placeOf(other.path);
}

/** The file where there is one; else the path with what exists of it resolved. */
function placeOf(path: string): string {
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

/** Returns the permission bits. @throws KmsError CONFIG_INVALID */
export function parseSocketMode(text: string): number {
  const mode = /^0?[0-7]{3}$/.test(text) ? Number.parseInt(text, 8) : Number.NaN;
  if (Number.isNaN(mode)) throw invalid('is not an octal mode; give "0600", or "0660" with socket.group');
  if ((mode & 0o007) !== 0) {
    throw invalid('lets every user of the machine in; give "0600", or "0660" with socket.group');
  }
  if ((mode & 0o117) !== 0 || (mode & 0o600) !== 0o600) {
    throw invalid('is no mode for a socket; give "0600", or "0660" with socket.group');
  }
  return mode;
}

/** @throws KmsError CONFIG_INVALID unless it is a group's name or number */
export function checkGroup(text: string): string {
  if (/^([A-Za-z_][A-Za-z0-9_.-]{0,31}|[0-9]{1,10})$/.test(text)) return text;
  throw invalid("is not a group; give a name such as kms, or a gid");
}

function invalid(message: string): KmsError {
  return new KmsError("CONFIG_INVALID", message);
}
