// Whether kube-apiserver lists a resource: one object that it cannot read fails every LIST of the resource, and its watch
// cache, which controllers and kubelets depend on.
import { setTimeout as sleep } from "node:timers/promises";
import { KmsError } from "../errors.js";
import { METADATA_LIST, type KubeApi } from "./kube-api.js";
import { describeRefusal } from "./kube-status.js";

/** Objects in a page, as in kubectl's. */
const PAGE = 500;
const PAUSE_MS = 1_000;
const EXPIRED = 410;
const FORBIDDEN = 403;

/**
 * Lists all objects of a resource, once from etcd and once from the watch cache, and repeats that until both succeed.
 * @param signal ends the repetition after the attempt in progress
 * @returns why the last attempt failed; undefined if it succeeded
 */
export async function waitForList(
  api: KubeApi,
  path: string,
  limitMs: number,
  signal?: AbortSignal,
): Promise<string | undefined> {
  const until = performance.now() + limitMs;
  for (;;) {
    const problem = await listOnce(api, path);
    if (problem === undefined || problem.isFinal || performance.now() >= until) return problem?.reason;
    if (signal?.aborted === true) return `${problem.reason}; interrupted, so this may pass`;
    await sleep(PAUSE_MS, undefined, { signal }).catch(() => undefined);
  }
}

interface Problem {
  readonly reason: string;
  readonly isFinal: boolean;
}

async function listOnce(api: KubeApi, path: string): Promise<Problem | undefined> {
  try {
    // A page from the watch cache, which is complete or not there.
    const cached = await page(api, `${path}?resourceVersion=0&limit=1`);
    if ("reason" in cached) return cached;
    const all = await listAll(api, path);
    return "reason" in all ? all : undefined;
  } catch (error) {
    return { reason: KmsError.from(error).message, isFinal: false };
  }
}

/** Lists all objects of a resource and returns their number, or why the list fails. @throws KmsError PEER_UNREACHABLE */
export async function listAll(api: KubeApi, path: string): Promise<Problem | { readonly objects: number }> {
  let objects = 0;
  let next = "";
  do {
    const start = next === "" ? "" : `&continue=${encodeURIComponent(next)}`;
    const read = await page(api, `${path}?limit=${PAGE}${start}`);
    if ("reason" in read) return read;
    objects += read.objects;
    ({ next } = read);
  } while (next !== "");
  return { objects };
}

interface Page {
  readonly objects: number;
  /** Where the next page begins; empty after the last one. */
  readonly next: string;
}

async function page(api: KubeApi, path: string): Promise<Problem | Page> {
  const { status, body } = await api.request({ method: "GET", path, accept: METADATA_LIST });
  try {
    if (status === EXPIRED) return { reason: "the list took too long", isFinal: false };
    if (status !== 200) {
      return { reason: describeRefusal(status, body), isFinal: status === FORBIDDEN };
    }
    const { items, metadata } = JSON.parse(body.toString()) as {
      readonly items?: readonly unknown[];
      readonly metadata?: { readonly continue?: string };
    };
    return { objects: items?.length ?? 0, next: metadata?.continue ?? "" };
  } finally {
    // The annotation of `kubectl apply` may contain a Secret's data.
    body.fill(0);
  }
}
