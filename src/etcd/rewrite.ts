// Makes kube-apiserver rewrite one object, with a patch that changes nothing and contains the resourceVersion that etcd
// holds. The API server decrypts the object, finds the stored value stale (it would use another key or provider now)
// and writes it. If somebody else has written the object in the meantime, the patch is refused, so their change is
// kept. The object itself is never received: the request asks for metadata only.
import { setTimeout as sleep } from "node:timers/promises";
import { KmsError } from "../errors.js";
import { METADATA, type KubeAnswer, type KubeApi } from "./kube-api.js";
import { describeRefusal } from "./kube-status.js";

export type Rewriting =
  /** The API server wrote it, under the key that it uses. */
  | { readonly kind: "rewritten" }
  /** The API server did not find it stale: it still uses the key and provider that the object is under. */
  | { readonly kind: "unchanged" }
  | { readonly kind: "gone" }
  /** Somebody else wrote it, so it is no longer stale. */
  | { readonly kind: "overtaken" }
  | { readonly kind: "failed"; readonly reason: string };

/** Returns the state of the object in etcd now; undefined if it has been deleted. */
export type Recheck = () => Promise<{ readonly modRevision: number; readonly stale: boolean } | undefined>;

const CONFLICTS = 20;
const RETRIES = 5;
const FIRST_PAUSE_MS = 200;
const MERGE_PATCH = "application/merge-patch+json";

/** Rewrites one object. @throws KmsError PEER_UNREACHABLE if the API server or etcd does not answer */
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
      // The annotation of `kubectl apply` may contain a Secret's data.
      answer.body.fill(0);
    }
    const now = await recheck();
    if (now === undefined) return { kind: "gone" };
    if (!now.stale) return { kind: "overtaken" };
    revision = now.modRevision;
  }
  const reason = "others keep writing it under another key; do all plugins publish the same key_id?";
  return { kind: "failed", reason };
}

/** Sends the patch, and repeats it if the API server is overloaded, fails or does not answer. */
async function patch(api: KubeApi, path: string, revision: number): Promise<KubeAnswer> {
  const json = { metadata: { resourceVersion: String(revision) } };
  for (let retry = 0; ; retry++) {
    let pauseMs = FIRST_PAUSE_MS * 2 ** retry;
    try {
      const answer = await api.request({
        method: "PATCH",
        path: `${path}?fieldManager=kms-pkcs11`,
        accept: METADATA,
        body: { type: MERGE_PATCH, json },
      });
      const isTemporary = answer.status === 429 || answer.status >= 500;
      if (!isTemporary || retry === RETRIES) return answer;
      pauseMs = Math.max(pauseMs, answer.retryAfterMs ?? 0);
    } catch (error) {
      if (retry === RETRIES || KmsError.from(error).code !== "PEER_UNREACHABLE") throw error;
    }
    await sleep(pauseMs);
  }
}

/** Returns whether the resourceVersion has changed. It precedes labels and annotations, so those need not be parsed. */
function wasWritten(body: Buffer, before: number): boolean {
  const name = '"resourceVersion":"';
  const start = body.indexOf(name);
  if (start < 0) return false;
  const from = start + name.length;
  return body.toString("latin1", from, body.indexOf('"', from)) !== String(before);
}
