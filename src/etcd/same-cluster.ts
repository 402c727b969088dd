// Whether the API server that is to write works on the etcd that is read: a kubeconfig may lead to another cluster, or
// to one that was restored from this etcd's backup. Asks with read requests only. Three signs, any of which may be out
// of reach (encrypted in etcd, or forbidden to the caller): the UID of the namespace kube-system, which no two clusters
// share but copies; the revision of the whole store, which copies do not share either; and the revisions of objects.
import { KmsError } from "../errors.js";
import protobuf from "protobufjs";
import type { ApiResources } from "./api-resources.js";
import type { KubeApi } from "./kube-api.js";
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
const METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
/** An object may be written between the two reads. */
const LOOKS = 5;
const SAMPLES = 5;

interface Metadata {
  readonly uid?: string;
  readonly resourceVersion?: string;
}

/**
 * @param samples objects that the API serves, some of them: compared where the namespace does not tell
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
  const looked = await compareRevisions(ports, stored, PATH);
  if (looked.verdict === "different") return looked;
  const uid = storedUid(stored);
  const told = looked.metadata?.uid;
  if (uid !== undefined && told !== undefined && uid !== told) {
    return different(`the namespace ${NAMESPACE} has the UID ${uid} in etcd, and ${told} in the API`);
  }
  const store = await compareStores(ports);
  if (store.verdict === "different") return store;
  const isKnown = uid !== undefined && told !== undefined;
  if (isKnown || (looked.verdict === "same" && store.verdict === "same")) {
    return same(`by the namespace ${NAMESPACE}`);
  }
  return unknown(looked.verdict === "unknown" ? looked.text : store.text);
}

/** The revision of a list must lie between two revisions that etcd reports. */
async function compareStores({ store, api }: ComparisonPorts): Promise<Comparison> {
  const before = await store.revision();
  const answer = await api.request({
    method: "GET",
    path: "/api/v1/namespaces?limit=1",
    accept: METADATA_LIST,
  });
  const after = await store.revision();
  const text = describeRefusal(answer.status, answer.body);
  if (answer.status !== 200) return unknown(`a list of namespaces is answered with ${text}`);
  const revision = Number(metadataOf(answer.body)?.resourceVersion ?? Number.NaN);
  if (Number.isNaN(revision)) return unknown("a list of namespaces names no resourceVersion");
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
    const place = object && ports.resources.place(object);
    if (place === undefined || "reason" in place) continue;
    if (++asked > SAMPLES) break;
    const { verdict, text } = await compareRevisions(ports, stored, place.path);
    if (verdict === "different") return different(text);
    if (verdict === "same") agreeing.push(stored.key);
    else reason = text;
  }
  return agreeing.length === 0 ? unknown(reason) : same(`by the revision of ${agreeing.join(", ")}`);
}

/** Whether an object has one revision in etcd and in the API. */
async function compareRevisions(
  { store, api }: ComparisonPorts,
  stored: StoredObject,
  path: string,
): Promise<Comparison & { readonly metadata?: Metadata | undefined }> {
  let before: StoredObject | undefined = stored;
  for (let look = 1; ; look++) {
    const { status, body } = await api.request({ method: "GET", path, accept: METADATA });
    const metadata = status === 200 ? metadataOf(body) : undefined;
    const refusal = describeRefusal(status, body);
    // Annotations may hold what kubectl applied, a Secret's data with it.
    body.fill(0);
    if (status !== 200 && status !== 404) return unknown(`${path} is answered with ${refusal}`);
    const now = await store.object(stored.key);
    const isUnchanged = now?.modRevision === before?.modRevision;
    const inApi = status === 404 ? undefined : metadata?.resourceVersion;
    if (inApi === (now && String(now.modRevision))) {
      return now === undefined
        ? unknown(`${path} has been deleted`)
        : { ...same("by its revision"), metadata };
    }
    if (isUnchanged || look === LOOKS) {
      const [here, there] = [now?.modRevision ?? "none", inApi ?? "none"];
      return different(
        `${stored.key} has revision ${String(here)} in etcd, and ${there} in the API (${path})`,
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

/** Returns the UID of an object that is stored in clear, as JSON or protobuf. */
function storedUid({ value }: StoredObject): string | undefined {
  if (value instanceof KmsError || value.kind !== "plaintext") return undefined;
  const { encoding, bytes } = value;
  if (encoding === "json") return metadataOf(bytes)?.uid;
  if (encoding !== "protobuf") return undefined;
  try {
    // k8s\0, then runtime.Unknown: raw is field 2; in every object metadata is field 1, and its uid field 5.
    const raw = fieldOf(bytes.subarray(4), 2);
    return Buffer.from(fieldOf(fieldOf(raw, 1), 5)).toString() || undefined;
  } catch {
    return undefined;
  }
}

/** Returns a length-delimited field of a protobuf message; empty when it has none. */
function fieldOf(message: Uint8Array, wanted: number): Uint8Array {
  const reader = protobuf.Reader.create(message);
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag >>> 3 === wanted && (tag & 7) === 2) return reader.bytes();
    reader.skipType(tag & 7);
  }
  return new Uint8Array();
}

const same = (text: string): Comparison => ({ verdict: "same", text });
const different = (text: string): Comparison => ({ verdict: "different", text });
const unknown = (text: string): Comparison => ({ verdict: "unknown", text });
