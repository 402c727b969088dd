// The endpoints and TLS files of etcd, given as for etcdctl, as channels for grpc-js.
import { isIP } from "node:net";
import { checkServerIdentity } from "node:tls";
import { credentials, type ChannelCredentials, type ChannelOptions } from "@grpc/grpc-js";
import { KmsError } from "../errors.js";
import { unreadable } from "../files/file-error.js";
import { readAtMost } from "../files/read-into.js";

/** A CA file may hold many certificates. */
const MAX_PEM_BYTES = 1024 * 1024;

export interface EtcdAccess {
  /** `https://host:port`, `http://host:port`, `host:port` or `unix:///path`; tried in this order. */
  readonly endpoints: readonly string[];
  /** Paths of PEM files. */
  readonly cacert?: string;
  readonly cert?: string;
  readonly key?: string;
}

export interface EtcdTarget {
  readonly endpoint: string;
  /** In the form that grpc-js takes. */
  readonly address: string;
  readonly credentials: ChannelCredentials;
  readonly options: ChannelOptions;
}

/** Returns a target per endpoint. @throws KmsError CONFIG_INVALID for an endpoint or a file that cannot be used */
export function etcdTargets(access: EtcdAccess): EtcdTarget[] {
  const { endpoints, cacert, cert, key } = access;
  if (endpoints.length === 0) throw new KmsError("CONFIG_INVALID", "--endpoints: give at least one endpoint");
  if ((cert === undefined) !== (key === undefined)) {
    throw new KmsError("CONFIG_INVALID", "--cert and --key: give both or neither");
  }
  const hasTlsFiles = cacert !== undefined || cert !== undefined;
  const parsed = endpoints.map((endpoint) => parseEndpoint(endpoint, hasTlsFiles));
  const files = readTlsFiles(access);
  try {
    return parsed.map((one) => ({ ...one, ...(one.isTls ? tls(one.address, files) : PLAIN) }));
  } catch (error) {
    throw new KmsError(
      "CONFIG_INVALID",
      "--cacert, --cert and --key: are not matching PEM files; give the files of one client",
      error,
    );
  } finally {
    files.key?.fill(0);
  }
}

interface Endpoint {
  readonly endpoint: string;
  readonly address: string;
  readonly isTls: boolean;
}

/** Reads an endpoint. Without a scheme it uses TLS if TLS files are given, as in etcdctl. */
function parseEndpoint(endpoint: string, hasTlsFiles: boolean): Endpoint {
  if (endpoint.startsWith("unix://")) return { endpoint, address: `unix:${endpoint.slice(7)}`, isTls: false };
  const [, scheme = hasTlsFiles ? "https" : "http", host] =
    /^(?:(https?):\/\/)?((?:\[[0-9a-fA-F:.]+\]|[^\s:/@[\]]+):\d{1,5})\/?$/.exec(endpoint) ?? [];
  if (host === undefined || !isPort(host.slice(host.lastIndexOf(":") + 1))) {
    throw new KmsError(
      "CONFIG_INVALID",
      `--endpoints: "${endpoint}" is not an endpoint; give https://host:2379, http://host:2379 or unix:///path`,
    );
  }
  return { endpoint, address: host, isTls: scheme === "https" };
}

function isPort(digits: string): boolean {
  return Number(digits) > 0 && Number(digits) < 65_536;
}

interface TlsFiles {
  readonly ca: Buffer | null;
  readonly cert: Buffer | null;
  readonly key: Buffer | null;
}

function readTlsFiles({ cacert, cert, key }: EtcdAccess): TlsFiles {
  return { ca: readPem("--cacert", cacert), cert: readPem("--cert", cert), key: readPem("--key", key) };
}

type Channel = Pick<EtcdTarget, "credentials" | "options">;

const PLAIN: Channel = { credentials: credentials.createInsecure(), options: {} };

/** The server name that a TLS client sends if it has only an IP address: RFC 6066 does not allow an address. */
const NO_NAME = "localhost";

function tls(address: string, { ca, cert, key }: TlsFiles): Channel {
  const host = address.slice(0, address.lastIndexOf(":")).replace(/^\[|\]$/g, "");
  if (isIP(host) === 0) return { credentials: credentials.createSsl(ca, key, cert), options: {} };
  const verify = { checkServerIdentity: (_name: string, peer: Peer) => checkServerIdentity(host, peer) };
  return {
    credentials: credentials.createSsl(ca, key, cert, verify),
    options: { "grpc.ssl_target_name_override": NO_NAME },
  };
}

type Peer = Parameters<typeof checkServerIdentity>[1];

function readPem(option: string, path: string | undefined): Buffer | null {
  if (path === undefined) return null;
  try {
    return readAtMost(path, MAX_PEM_BYTES);
  } catch (error) {
    throw unreadable(option, path, error, error instanceof KmsError ? "longer than 1 MiB" : undefined);
  }
}
