// Deletes an object that kube-apiserver cannot read, through kube-apiserver (KEP-3926; on by default in Kubernetes 1.37). An
// API server without this feature ignores the option and would delete a readable object as usual. So the API server is asked
// first: it has to say "corrupt object", which only one with the feature says.
import { METADATA, type KubeAnswer, type KubeApi } from "./kube-api.js";
import { describeRefusal } from "./kube-status.js";

/** What the API server says about an object, or did with it. */
export type ApiVerdict =
  /** It cannot read the object, but could delete it. */
  | { readonly kind: "unreadable" }
  | { readonly kind: "deleted" }
  | { readonly kind: "gone" }
  | { readonly kind: "readable" | "unsupported" | "forbidden" | "failed"; readonly reason: string };

/** The verb that a user needs in addition to "delete". */
const UNSAFE_VERB = "unsafe-delete-ignore-read-errors";

/** The verbs that a deletion needs: the object is read before it, and its resource is listed after it. */
export const NEEDED_VERBS = ["get", "list", "delete", UNSAFE_VERB];

/** No other option may be set beside this one. */
const DELETE_OPTIONS = {
  kind: "DeleteOptions",
  apiVersion: "v1",
  ignoreStoreReadErrorWithClusterBreakingPotential: true,
};
const FORBIDDEN = 403;
const NOT_FOUND = 404;
const INVALID = 422;
const SERVER_ERROR = 500;
const CORRUPT = "corrupt object";

/** Asks the API server to read an object; only its metadata is returned. @throws KmsError PEER_UNREACHABLE */
export async function askApi(api: KubeApi, path: string): Promise<ApiVerdict> {
  const answer = await api.request({ method: "GET", path, accept: METADATA });
  const { status, text } = take(answer);
  if (status === 200) {
    const reason =
      "kube-apiserver can read it, perhaps with a DEK seed that only its memory holds; have it rewritten with 'etcd migrate' before any API server restarts";
    return { kind: "readable", reason };
  }
  if (status === NOT_FOUND) return { kind: "gone" };
  if (status === FORBIDDEN) return { kind: "forbidden", reason: text };
  if (status !== SERVER_ERROR) return { kind: "failed", reason: text };
  if (text.includes(CORRUPT)) return { kind: "unreadable" };
  const reason = `kube-apiserver does not recognise an object that it cannot read (${text}); Kubernetes 1.37 does, 1.32 to 1.36 with --feature-gates=AllowUnsafeMalformedObjectDeletion=true`;
  return { kind: "unsupported", reason };
}

/**
 * Has the API server delete an object that it cannot read. It refuses if it can read the object.
 * @throws KmsError PEER_UNREACHABLE if the answer is lost; only etcd then shows the outcome
 */
export async function deleteUnreadable(api: KubeApi, path: string): Promise<ApiVerdict> {
  const body = { type: "application/json", json: DELETE_OPTIONS };
  const { status, text } = take(await api.request({ method: "DELETE", path, body }));
  if (status >= 200 && status < 300) return { kind: "deleted" };
  if (status === NOT_FOUND) return { kind: "gone" };
  if (status === FORBIDDEN) return { kind: "forbidden", reason: text };
  return { kind: status === INVALID ? "readable" : "failed", reason: text };
}

/**
 * Returns the first verb that the user lacks to delete unreadable objects of a resource in any namespace; undefined if all are
 * permitted, or if that is unknown.
 * @throws KmsError PEER_UNREACHABLE
 */
export async function missingRight(
  api: KubeApi,
  { group, resource }: { readonly group: string; readonly resource: string },
): Promise<string | undefined> {
  for (const verb of NEEDED_VERBS) {
    const { status, body } = await api.request({
      method: "POST",
      path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
      body: {
        type: "application/json",
        json: {
          kind: "SelfSubjectAccessReview",
          apiVersion: "authorization.k8s.io/v1",
          spec: { resourceAttributes: { verb, group, resource } },
        },
      },
    });
    if (status >= 200 && status < 300 && isRefused(body)) return verb;
  }
  return undefined;
}

function isRefused(body: Buffer): boolean {
  try {
    const review = JSON.parse(body.toString()) as { status?: { allowed?: boolean } };
    return review.status?.allowed === false;
  } catch {
    return false;
  }
}

/** Returns status and reason; zeroes the body, which may contain a Secret's annotations. */
function take({ status, body }: KubeAnswer): { readonly status: number; readonly text: string } {
  const text = status >= 200 && status < 300 ? "" : describeRefusal(status, body);
  body.fill(0);
  return { status, text };
}
