// A kube-apiserver of its own for a drill, on the private etcd and the private plugin. It accepts one token that is in the
// private folder, and sends nothing to webhooks, aggregated API servers or nodes, whose addresses are in the snapshot.
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { join } from "node:path";
import { KmsError } from "../errors.js";
import { startListing, type Listable, type Listed, type Listing, type ListingRequest } from "./listing.js";
import type { Network } from "./network.js";
import type { PrivateEtcd } from "./private-etcd.js";
import { writePrivate } from "./private-folder.js";
import { bareEnvironment, type ProcessGroup } from "./private-process.js";
import type { Program } from "./programs.js";
import type { Found, StepClock } from "./step-clock.js";

/** How long the listing may take for each object, and at least, in ms. */
const OBJECT_MS = 20;
const LISTING_MS = 120_000;
const TAKEN = "address already in use";
const TRIES = 3;
/** These call addresses in the snapshot, or refuse what the API server itself writes when it starts. */
const WITHOUT = ["MutatingAdmissionWebhook", "ValidatingAdmissionWebhook", "ValidatingAdmissionPolicy"];

export interface ApiserverPlace {
  readonly apiserver: Program;
  readonly etcd: PrivateEtcd;
  readonly pluginSocket: string;
  readonly network: Network;
  /** kube-apiserver's `--etcd-prefix`. */
  readonly etcdPrefix: string;
  readonly listable: Listable;
  readonly readyMs: number;
  readonly processes: ProcessGroup;
}

/** Starts the API server and lists the encrypted resources, as the steps "apiserver" and "list". Returns the lists. */
export async function listThroughApiserver(
  place: ApiserverPlace,
  clock: StepClock,
): Promise<readonly Listed[]> {
  let running: Running | undefined;
  try {
    await clock.run("apiserver", async () => {
      for (let tries = 1; running === undefined; tries++) {
        running = await startReady(place, tries < TRIES);
      }
      return { detail: `kube-apiserver ${place.apiserver.version} ready` };
    });
    const { listing } = running ?? {};
    if (listing === undefined) return [];
    const { resources } = place.listable;
    const objects = resources.reduce((sum, { expected }) => sum + expected, 0);
    const limitMs = LISTING_MS + objects * OBJECT_MS;
    await clock.run("list", async () => {
      await listing.process.until(() => listing.isDone(), limitMs);
      return judge(listing.listed, place.listable);
    });
    return listing.listed;
  } finally {
    await running?.stop();
  }
}

interface Running {
  readonly listing: Listing;
  stop(): Promise<void>;
}

/** Returns undefined if its port was taken in the meantime and another may be tried. @throws KmsError */
async function startReady(place: ApiserverPlace, mayTryAgain: boolean): Promise<Running | undefined> {
  const { etcd, network, readyMs, processes } = place;
  const port = await network.port();
  const { args, request } = writeFiles(place, port);
  const child = processes.start({
    name: "the private kube-apiserver",
    command: [...network.prefix, place.apiserver.path, ...args],
    folder: etcd.folder,
    env: bareEnvironment(etcd.folder),
    logFile: join(etcd.folder, "kube-apiserver.log"),
  });
  const listing = startListing(processes, etcd.folder, network.prefix, request);
  const stop = async (): Promise<void> => {
    await Promise.all([listing.process.stop(false), child.stop(false)]);
  };
  try {
    await child.until(() => {
      if (listing.isReady()) return true;
      listing.process.requireRunning();
      return false;
    }, readyMs);
    return { listing, stop };
  } catch (error) {
    await stop();
    const { code, message } = KmsError.from(error);
    if (mayTryAgain && message.includes(TAKEN)) return undefined;
    const missing = listing.missing() === "" ? "" : `; not ready: ${listing.missing()}`;
    throw new KmsError(code, message + missing, error);
  }
}

/** Writes the files of the API server and of the process that lists. */
function writeFiles(
  { etcd, pluginSocket, etcdPrefix, listable }: ApiserverPlace,
  port: number,
): { readonly args: string[]; readonly request: ListingRequest } {
  const at = (name: string): string => join(etcd.folder, name);
  const write = (name: string, content: string | object): void => {
    writePrivate(at(name), typeof content === "string" ? content : JSON.stringify(content));
  };
  const token = randomBytes(32).toString("hex");
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const certificate = at("certs/apiserver.crt");
  write("service-account.key", privateKey.export({ type: "sec1", format: "pem" }));
  write("tokens.csv", `${token},drill,drill,system:masters\n`);
  write("encryption.json", encryptionConfiguration(listable, pluginSocket));
  write("egress.json", egressConfiguration(at("nowhere.sock")));
  write("kubeconfig", kubeconfig(port, certificate, token));
  return {
    args: apiserverArguments(at, etcd.endpoint, etcdPrefix, port),
    request: { kubeconfig: at("kubeconfig"), certificate, resources: listable.resources },
  };
}

function apiserverArguments(
  at: (name: string) => string,
  endpoint: string,
  etcdPrefix: string,
  port: number,
): string[] {
  return [
    `--etcd-servers=${endpoint}`,
    `--etcd-prefix=${etcdPrefix.replace(/\/+$/, "")}`,
    "--bind-address=127.0.0.1",
    "--advertise-address=127.0.0.1",
    `--secure-port=${port}`,
    `--cert-dir=${at("certs")}`,
    `--token-auth-file=${at("tokens.csv")}`,
    "--anonymous-auth=false",
    "--authorization-mode=RBAC",
    "--service-account-issuer=https://kubernetes.default.svc",
    `--service-account-key-file=${at("service-account.key")}`,
    `--service-account-signing-key-file=${at("service-account.key")}`,
    // Any range will do: the API server only warns of Services outside it, IPv6 included.
    "--service-cluster-ip-range=10.96.0.0/16",
    // Its own address must not get into the snapshot's Endpoints.
    "--endpoint-reconciler-type=none",
    `--disable-admission-plugins=${WITHOUT.join(",")}`,
    `--egress-selector-config-file=${at("egress.json")}`,
    `--encryption-provider-config=${at("encryption.json")}`,
    "--profiling=false",
  ];
}

function encryptionConfiguration({ resources, providers }: Listable, socket: string): object {
  const kms = providers.map((name) => ({
    kms: { apiVersion: "v2", name, endpoint: `unix://${socket}`, timeout: "10s" },
  }));
  return {
    apiVersion: "apiserver.config.k8s.io/v1",
    kind: "EncryptionConfiguration",
    resources: [
      { resources: resources.map(({ resource }) => resource), providers: [...kms, { identity: {} }] },
    ],
  };
}

/** Sends connections to the cluster's network and to webhooks to a socket that does not exist. */
function egressConfiguration(nowhere: string): object {
  const connection = { proxyProtocol: "HTTPConnect", transport: { uds: { udsName: nowhere } } };
  return {
    apiVersion: "apiserver.k8s.io/v1beta1",
    kind: "EgressSelectorConfiguration",
    egressSelections: [
      { name: "cluster", connection },
      { name: "controlplane", connection },
    ],
  };
}

function kubeconfig(port: number, certificate: string, token: string): object {
  return {
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name: "drill",
        cluster: { server: `https://127.0.0.1:${port}`, "certificate-authority": certificate },
      },
    ],
    users: [{ name: "drill", user: { token } }],
    contexts: [{ name: "drill", context: { cluster: "drill", user: "drill" } }],
    "current-context": "drill",
  };
}

/** Returns the result of the step: every resource has been listed, with no fewer objects than the snapshot has. */
function judge(listed: readonly Listed[], { left }: Listable): Found {
  const failed = listed.filter(({ objects, expected }) => objects === null || objects < expected);
  const objects = listed.reduce((sum, one) => sum + (one.objects ?? 0), 0);
  const problems = failed.map(({ resource, objects: seen, expected, problem }) =>
    seen === null ? `${resource}: ${problem ?? ""}` : `${resource}: ${seen} of ${expected}`,
  );
  const detail = [
    `${objects} objects of ${listed.map(({ resource }) => resource).join(", ")}`,
    ...problems,
    ...(left.length > 0 ? [`not listed, since another provider encrypts some: ${left.join(", ")}`] : []),
  ].join("; ");
  return { detail, failed: failed.length > 0 };
}
