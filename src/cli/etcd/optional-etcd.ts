// The etcd of commands that do not require one, named by their options or by etcdctl's variables. Such a command has a
// --key that names KEKs, so the private key of the client certificate is --etcd-key.
import type { Command } from "commander";
import type { EtcdAccess } from "../../etcd/endpoints.js";
import { etcdAccess } from "./options.js";

export interface OptionalEtcdOptions {
  readonly endpoints?: string;
  readonly cacert?: string;
  readonly cert?: string;
  readonly etcdKey?: string;
}

/** Adds the options. @param what says what --endpoints names */
export function addOptionalEtcdOptions(command: Command, what: string): Command {
  return command
    .option("--endpoints <list>", `${what} (default: ETCDCTL_ENDPOINTS, with etcdctl's other variables)`)
    .option("--cacert <file>", "CA of etcd's certificate, PEM")
    .option("--cert <file>", "client certificate for etcd, PEM")
    .option("--etcd-key <file>", "private key of the client certificate, PEM");
}

/** Returns how etcd is reached; undefined if neither the options nor the environment names an endpoint. */
export function optionalEtcd(options: OptionalEtcdOptions): EtcdAccess | undefined {
  const { ETCDCTL_ENDPOINTS, ETCDCTL_CACERT, ETCDCTL_CERT, ETCDCTL_KEY } = process.env;
  const endpoints = options.endpoints ?? ETCDCTL_ENDPOINTS;
  if (endpoints === undefined || endpoints === "") return undefined;
  const cacert = options.cacert ?? ETCDCTL_CACERT;
  const cert = options.cert ?? ETCDCTL_CERT;
  const key = options.etcdKey ?? ETCDCTL_KEY;
  return etcdAccess({
    endpoints,
    ...(cacert !== undefined && { cacert }),
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
  });
}
