// The options of the etcd commands for the source of objects, etcd or a snapshot, with the names that etcdctl uses.
import { Option, type Command } from "commander";
import { withLiveEtcd, withSnapshot, type EtcdSource } from "../../admin/etcd-source.js";
import type { Operator } from "../../admin/operator.js";
import { KmsError } from "../../errors.js";
import type { EtcdAccess } from "../../etcd/endpoints.js";
import type { OutputFormat } from "../output.js";

export interface EndpointOptions {
  readonly endpoints?: string;
  readonly cacert?: string;
  readonly cert?: string;
  readonly key?: string;
}

export interface SourceOptions extends EndpointOptions {
  readonly snapshot?: string;
  readonly skipHashCheck?: boolean;
  readonly etcdBin?: string;
  readonly etcdutlBin?: string;
  readonly output: OutputFormat;
}

export interface EtcdOptions extends SourceOptions {
  readonly prefix: string;
}

const DEFAULT_ENDPOINT = "127.0.0.1:2379";
export const DEFAULT_PREFIX = "/registry/";

/** Adds the options of commands that read all keys under a prefix. */
export function addEtcdOptions(command: Command): Command {
  return addSourceOptions(command).option(
    "--prefix <prefix>",
    "prefix of the keys to read: kube-apiserver's --etcd-prefix",
    DEFAULT_PREFIX,
  );
}

/** Adds the options that say which resources to encrypt. */
export function addAimOptions(command: Command): Command {
  return command
    .option(
      "--encryption-config <file>",
      "kube-apiserver's EncryptionConfiguration: the resources to encrypt",
    )
    .option(
      "--resources <list>",
      "the resources to encrypt, such as secrets,configmaps; without both options: secrets and every partly encrypted resource",
    );
}

/** Adds the options of commands that read a running etcd or a snapshot. */
export function addSourceOptions(command: Command): Command {
  return addEndpointOptions(command)
    .option("--snapshot <file>", "read a snapshot of 'etcdctl snapshot save' instead of a running etcd")
    .option(
      "--skip-hash-check",
      "read a snapshot without the hash that etcdctl appends, such as a copy of member/snap/db",
    )
    .addOption(new Option("--etcd-bin <program>").hideHelp())
    .addOption(new Option("--etcdutl-bin <program>").hideHelp());
}

/** Adds the options of commands that read a running etcd only. */
export function addEndpointOptions(command: Command): Command {
  const file = (flags: string, what: string, env: string): Option => new Option(flags, what).env(env);
  return command
    .addOption(
      file(
        "--endpoints <list>",
        `endpoints of etcd, separated by commas (default: ${DEFAULT_ENDPOINT})`,
        "ETCDCTL_ENDPOINTS",
      ),
    )
    .addOption(file("--cacert <file>", "CA of etcd's certificate, PEM", "ETCDCTL_CACERT"))
    .addOption(file("--cert <file>", "client certificate for etcd, PEM", "ETCDCTL_CERT"))
    .addOption(file("--key <file>", "private key of the client certificate, PEM", "ETCDCTL_KEY"));
}

/** Returns the endpoints and TLS files that the options name. As for etcdctl, an empty variable counts as unset. */
export function etcdAccess({ endpoints = "", ...files }: EndpointOptions): EtcdAccess {
  const [cacert, cert, key] = [files.cacert, files.cert, files.key].map((file) =>
    file === "" ? undefined : file,
  );
  return {
    endpoints: (endpoints === "" ? DEFAULT_ENDPOINT : endpoints)
      .split(",")
      .map((one) => one.trim())
      .filter((one) => one !== ""),
    ...(cacert !== undefined && { cacert }),
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
  };
}

/** Opens the running etcd or the snapshot that the options name. @throws KmsError CONFIG_INVALID, PEER_UNREACHABLE */
export function withEtcd<T>(
  options: SourceOptions,
  operator: Operator,
  use: (source: EtcdSource) => Promise<T>,
): Promise<T> {
  const { snapshot, skipHashCheck = false } = options;
  requireNoPrograms(options);
  if (snapshot !== undefined) return withSnapshot(snapshot, { skipHashCheck }, operator, use);
  if (skipHashCheck) {
    throw new KmsError(
      "CONFIG_INVALID",
      "--skip-hash-check: applies to --snapshot FILE; give both or neither",
    );
  }
  return withLiveEtcd(etcdAccess(options), use);
}

/** Earlier versions needed etcd and etcdutl for a snapshot. */
function requireNoPrograms({ etcdBin, etcdutlBin }: SourceOptions): void {
  if (etcdBin === undefined && etcdutlBin === undefined) return;
  throw new KmsError(
    "CONFIG_INVALID",
    `${etcdBin === undefined ? "--etcdutl-bin" : "--etcd-bin"}: was removed, since --snapshot needs no etcd program; omit it`,
  );
}
