// Checks that the API server which will write uses the etcd that is read: a kubeconfig may lead to another cluster, or
// to one restored from this etcd's backup. Sends read requests only. Compares three things, each of which may be
// unavailable (encrypted in etcd, or forbidden to the user): the UID of the namespace kube-system, which only copies of
// a cluster share; the revision of the whole store, which copies do not share; and the revisions of objects.
import { KmsError } from "../errors.js";
import protobuf from "protobufjs";
import type { ApiResources } from "./api-resources.js";
import { METADATA, METADATA_LIST, type KubeApi } from "./kube-api.js";
import { describeRefusal } from "./kube-status.js";
import { normalPrefix, parseStorageKey } from "./storage-key.js";
import type { EtcdStore, StoredObject } from "./store.js";

export interface ComparisonPorts {
  readonly store: EtcdStore;
  readonly prefix: string;
  readonly api: KubeApi;
  readonly resources: ApiResources;
}

/** `same` and `different` are certain; the text gives the evidence, or why it is unknown. */
export interface Comparison {
  readonly verdict: "same" | "different" | "unknown";
  readonly text: string;
}

const NAMESPACE = "kube-system";
const PATH = `/api/v1/namespaces/${NAMESPACE}`;
/** An object may be written between the two reads, so the comparison is repeated. */
const MAX_ATTEMPTS = 5;
const MAX_SAMPLES = 5;

interface Metadata {
  readonly uid?: string;
  readonly resourceVersion?: string;
}

/**
 * Compares the API server's cluster with this etcd.
 * @param samples objects that the API serves; some of them are compared if the namespace does not decide
 * @throws KmsError PEER_UNREACHABLE
 */
export async function compareClusters(
  ports: ComparisonPorts,
  samples: () => AsyncIterable<StoredObject>,
): Promise<Comparison> {
  const first = await compareNamespace(ports);
  if (first.verdict !== "unknown") return first;
  const second = await compareSamples(ports, samples());
  return second.verdict === "unknown" ? { ...second, text: `${first.text}; ${second.text}` } : second;
}

async function compareNamespace(ports: ComparisonPorts): Promise<Comparison> {
  const key = `${normalPrefix(ports.prefix)}namespaces/${NAMESPACE}`;
  const stored = await ports.store.object(key);
  if (stored === undefined) return unknown(`this etcd has no namespace ${NAMESPACE}`);
  const revision = await compareRevisions(ports, stored, PATH);
  if (revision.verdict === "different") return revision;
  const uid = storedUid(stored);
  const apiUid = revision.metadata?.uid;
  if (uid !== undefined && apiUid !== undefined && uid !== apiUid) {
    return different(`the namespace ${NAMESPACE} has the UID ${uid} in etcd, and ${apiUid} in the API`);
  }
  const store = await compareStores(ports);
  if (store.verdict === "different") return store;
  const isKnown = uid !== undefined && apiUid !== undefined;
  if (isKnown || (revision.verdict === "same" && store.verdict === "same")) {
    return same(`by the namespace ${NAMESPACE}`);
  }
  return unknown(revision.verdict === "unknown" ? revision.text : store.text);
}

/** Compares the revision of a list in the API with the revisions of etcd before and after it. */
async function compareStores({ store, api }: ComparisonPorts): Promise<Comparison> {
  const before = await store.revision();
  const answer = await api.request({
    method: "GET",
    path: "/api/v1/namespaces?limit=1",
    accept: METADATA_LIST,
  });
  const after = await store.revision();
  const text = describeRefusal(answer.status, answer.body);
  if (answer.status !== 200) return unknown(`the API answers a list of namespaces with ${text}`);
  const revision = Number(metadataOf(answer.body)?.resourceVersion ?? Number.NaN);
  if (Number.isNaN(revision)) return unknown("the API's list of namespaces has no resourceVersion");
  if (before <= revision && revision <= after) return same("by the revision of the whole store");
  const range = before === after ? String(before) : `${before} to ${after}`;
  return different(`the API server's store is at revision ${revision}, this etcd at ${range}`);
}

async function compareSamples(
  ports: ComparisonPorts,
  samples: AsyncIterable<StoredObject>,
): Promise<Comparison> {
  const agreeing: string[] = [];
  let reason = "there is no object to compare";
  let asked = 0;
  for await (const stored of samples) {
    const object = parseStorageKey(stored.key, ports.prefix);
    const served = object && ports.resources.pathOf(object);
    if (served === undefined || "reason" in served) continue;
    if (++asked > MAX_SAMPLES) break;
    const { verdict, text } = await compareRevisions(ports, stored, served.path);
    if (verdict === "different") return different(text);
    if (verdict === "same") agreeing.push(stored.key);
    else reason = text;
  }
  return agreeing.length === 0 ? unknown(reason) : same(`by the revision of ${agreeing.join(", ")}`);
}

/** Compares the revision of an object in etcd with that in the API. */
async function compareRevisions(
  { store, api }: ComparisonPorts,
  stored: StoredObject,
  path: string,
): Promise<Comparison & { readonly metadata?: Metadata | undefined }> {
  let before: StoredObject | undefined = stored;
  for (let attempt = 1; ; attempt++) {
    const { status, body } = await api.request({ method: "GET", path, accept: METADATA });
    const metadata = status === 200 ? metadataOf(body) : undefined;
    const refusal = describeRefusal(status, body);
    // The annotation of `kubectl apply` may contain a Secret's data.
    body.fill(0);
    if (status !== 200 && status !== 404) return unknown(`the API answers ${path} with ${refusal}`);
    const now = await store.object(stored.key);
    const isUnchanged = now?.modRevision === before?.modRevision;
    const inApi = status === 404 ? undefined : metadata?.resourceVersion;
    if (inApi === (now && String(now.modRevision))) {
      return now === undefined
        ? unknown(`${path} has been deleted`)
        : { ...same("by its revision"), metadata };
    }
    if (isUnchanged || attempt === MAX_ATTEMPTS) {
      const inEtcd = now?.modRevision ?? "none";
      return different(
        `${stored.key} has revision ${inEtcd} in etcd, and ${inApi ?? "none"} in the API (${path})`,
      );
    }
    before = now;
  }
}

function metadataOf(body: Buffer): Metadata | undefined {
  try {
    return (JSON.parse(body.toString()) as { metadata?: Metadata }).metadata;
  } catch {
    return undefined;
  }
}

/** Returns the UID of an object that is stored in clear as JSON or protobuf; undefined if it cannot be read. */
function storedUid({ value }: StoredObject): string | undefined {
  if (value instanceof KmsError || value.kind !== "plaintext") return undefined;
  const { encoding, bytes } = value;
  if (encoding === "json") return metadataOf(bytes)?.uid;
  if (encoding !== "protobuf") return undefined;
  try {
    // After k8s\0 comes runtime.Unknown, whose field 2 is raw; in every object field 1 is metadata, whose field 5 is
    // uid.
    const raw = fieldOf(bytes.subarray(4), 2);
    return Buffer.from(fieldOf(fieldOf(raw, 1), 5)).toString() || undefined;
  } catch {
    return undefined;
  }
}

/** Returns a length-delimited field of a protobuf message; empty if the message does not have it. */
function fieldOf(message: Uint8Array, field: number): Uint8Array {
  const reader = protobuf.Reader.create(message);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag >>> 3 === field && (tag & 7) === 2) return reader.bytes();
    reader.skipType(tag & 7);
  }
  return new Uint8Array();
}

const same = (text: string): Comparison => ({ verdict: "same", text });
const different = (text: string): Comparison => ({ verdict: "different", text });
const unknown = (text: string): Comparison => ({ verdict: "unknown", text });
