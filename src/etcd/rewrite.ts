// Has kube-apiserver write one object anew: a patch that changes nothing but names the resourceVersion that etcd
// holds. The API server decrypts the object, finds what is stored stale (another key or provider than it writes with
// now) and writes it; whoever else has written meanwhile wins, since the patch is then refused. The object itself
// never comes here: the answer is asked for without its content.
import { setTimeout as sleep } from "node:timers/promises";
import { KmsError } from "../errors.js";
import type { KubeAnswer, KubeApi } from "./kube-api.js";
import { describeRefusal } from "./kube-status.js";

export type Rewriting =
  /** It was written, under whatever key that API server writes with. */
  | { readonly kind: "rewritten" }
  /** The API server sees nothing stale: it writes with the key and provider that the object is under. */
  | { readonly kind: "unchanged" }
  | { readonly kind: "gone" }
  /** Somebody else wrote it, and it is no longer stale. */
  | { readonly kind: "overtaken" }
  | { readonly kind: "failed"; readonly reason: string };

/** What etcd holds under the object's key now; undefined when it is gone. */
export type Recheck = () => Promise<{ readonly modRevision: number; readonly stale: boolean } | undefined>;

const CONFLICTS = 20;
const RETRIES = 5;
const FIRST_PAUSE_MS = 200;
const MERGE_PATCH = "application/merge-patch+json";
const METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/** @throws KmsError PEER_UNREACHABLE when the API server or etcd stays away */
export async function rewrite(
  api: KubeApi,
  path: string,
  modRevision: number,
  recheck: Recheck,
): Promise<Rewriting> {
  let revision = modRevision;
  for (let conflict = 0; conflict < CONFLICTS; conflict++) {
    const answer = await patch(api, path, revision);
    try {
      if (answer.status === 200) {
        return { kind: wasWritten(answer.body, revision) ? "rewritten" : "unchanged" };
      }
      if (answer.status === 404) return { kind: "gone" };
      if (answer.status !== 409) {
        return { kind: "failed", reason: describeRefusal(answer.status, answer.body) };
      }
    } finally {
      // Annotations may hold what kubectl applied, a Secret's data with it.
      answer.body.fill(0);
    }
    const now = await recheck();
    if (now === undefined) return { kind: "gone" };
    if (!now.stale) return { kind: "overtaken" };
    revision = now.modRevision;
  }
  const reason = "others keep writing it under another key; are all plugins at the same key?";
  return { kind: "failed", reason };
}

/** Asks again when the API server is overloaded, fails or is away. */
async function patch(api: KubeApi, path: string, revision: number): Promise<KubeAnswer> {
  const json = { metadata: { resourceVersion: String(revision) } };
  for (let retry = 0; ; retry++) {
    let pauseMs = FIRST_PAUSE_MS * 2 ** retry;
    try {
      const answer = await api.request({
        method: "PATCH",
        path: `${path}?fieldManager=kms-pkcs11`,
        accept: METADATA_ONLY,
        body: { type: MERGE_PATCH, json },
      });
      const isPassing = answer.status === 429 || answer.status >= 500;
      if (!isPassing || retry === RETRIES) return answer;
      pauseMs = Math.max(pauseMs, answer.retryAfterMs ?? 0);
    } catch (error) {
      if (retry === RETRIES || KmsError.from(error).code !== "PEER_UNREACHABLE") throw error;
    }
    await sleep(pauseMs);
  }
}

/** The object's resourceVersion stands before its labels and annotations, and is read without parsing those. */
function wasWritten(body: Buffer, before: number): boolean {
  const name = '"resourceVersion":"';
  const start = body.indexOf(name);
  if (start < 0) return false;
  const from = start + name.length;
  return body.toString("latin1", from, body.indexOf('"', from)) !== String(before);
}
