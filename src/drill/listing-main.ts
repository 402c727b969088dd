// The entry of the process that waits until the private API server is ready, and then lists every object of the
// encrypted resources, page by page. A process of its own, since only that can enter the API server's network namespace. It asks
// for metadata only: the API server decrypts every object for it, but sends no secret.
//
// Argument: a file with a ListingRequest. Standard output: one ListingEvent in each line.
import { existsSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { KmsError } from "../errors.js";
import { ApiResources, collectionPath } from "../etcd/api-resources.js";
import { KubeApi } from "../etcd/kube-api.js";
import { listAll } from "../etcd/list-check.js";
import type { ApiObjectName } from "../etcd/storage-key.js";
import type { ListingEvent, ListingRequest } from "./listing.js";

const POLL_MS = 200;

const request = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8")) as ListingRequest;
await run();

async function run(): Promise<void> {
  while (!existsSync(request.certificate)) await sleep(POLL_MS);
  const api = KubeApi.connect({ kubeconfig: request.kubeconfig }, {});
  try {
    await untilReady(api);
    report({ event: "ready" });
    const served = await ApiResources.discover(api);
    for (const { resource, expected } of request.resources) {
      report({ event: "listed", resource, expected, ...(await list(api, served, parts(resource))) });
    }
    report({ event: "done" });
  } finally {
    api.close();
  }
}

/** Reports what is missing whenever that changes. */
async function untilReady(api: KubeApi): Promise<void> {
  for (let last = ""; ;) {
    const missing = await whatIsMissing(api);
    if (missing === undefined) return;
    if (missing !== last) report({ event: "waiting", missing });
    last = missing;
    await sleep(POLL_MS);
  }
}

/** Returns the checks of /readyz that fail; undefined if the API server is ready. */
async function whatIsMissing(api: KubeApi): Promise<string | undefined> {
  try {
    const { status, body } = await api.request({ method: "GET", path: "/readyz" });
    if (status === 200) return undefined;
    const failed = [...body.toString().matchAll(/^\[-\](\S+)/gm)].map(([, name = ""]) => name);
    return failed.length > 0 ? failed.join(", ") : `HTTP status ${status}`;
  } catch (error) {
    return KmsError.from(error).message;
  }
}

async function list(
  api: KubeApi,
  served: ApiResources,
  name: Pick<ApiObjectName, "group" | "resource">,
): Promise<{ readonly objects: number | null; readonly problem: string | null }> {
  const found = served.find(name, "list");
  if ("reason" in found) return { objects: null, problem: found.reason };
  try {
    const all = await listAll(api, collectionPath(found, name.resource));
    return "reason" in all ? { objects: null, problem: all.reason } : { ...all, problem: null };
  } catch (error) {
    return { objects: null, problem: KmsError.from(error).message };
  }
}

/** Returns the parts of a name such as "secrets" or "widgets.example.com". */
function parts(name: string): Pick<ApiObjectName, "group" | "resource"> {
  const dot = name.indexOf(".");
  return dot < 0
    ? { group: "", resource: name }
    : { group: name.slice(dot + 1), resource: name.slice(0, dot) };
}

function report(event: ListingEvent): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}
