// Starts the process that lists the private API server's objects. Defines its request and its answers.
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Usage } from "../etcd/census-row.js";
import { NO_API_OBJECT } from "../etcd/storage-key.js";
import type { DrillReport } from "../evidence/drill-report.js";
import { writePrivate } from "./private-folder.js";
import { bareEnvironment, type PrivateProcess, type ProcessGroup } from "./private-process.js";

const ENTRY = fileURLToPath(new URL("listing-main.js", import.meta.url));

export type Listed = DrillReport["listed"][number];

export interface ListingRequest {
  readonly kubeconfig: string;
  /** Exists when the API server has made its certificate. */
  readonly certificate: string;
  readonly resources: readonly Pick<Listed, "resource" | "expected">[];
}

export type ListingEvent =
  | { readonly event: "waiting"; readonly missing: string }
  | { readonly event: "ready" }
  | ({ readonly event: "listed" } & Listed)
  | { readonly event: "done" };

/** The process, and what it has reported so far. */
export interface Listing {
  readonly process: PrivateProcess;
  readonly listed: Listed[];
  /** What the API server lacked last, in a few words. */
  missing(): string;
  isReady(): boolean;
  isDone(): boolean;
}

/** Starts the process. @param prefix put before its command */
export function startListing(
  processes: ProcessGroup,
  folder: string,
  prefix: readonly string[],
  request: ListingRequest,
): Listing {
  const file = join(folder, "listing.json");
  writePrivate(file, JSON.stringify(request));
  const events = new Set<string>();
  const listed: Listed[] = [];
  let rest = "";
  let missing = "";
  const child = processes.start({
    name: "the process that lists objects",
    command: [...prefix, process.execPath, ENTRY, file],
    folder,
    env: bareEnvironment(folder),
    logFile: join(folder, "listing.log"),
    onOutput: (text) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const { event, ...facts } = JSON.parse(line) as ListingEvent;
        events.add(event);
        if ("missing" in facts) missing = facts.missing;
        if ("resource" in facts) listed.push(facts);
      }
    },
  });
  return {
    process: child,
    listed,
    missing: () => missing,
    isReady: () => events.has("ready"),
    isDone: () => events.has("done"),
  };
}

/** What a private API server can list of a snapshot. */
export interface Listable {
  /** Resources with an object under KMS v2, and no object that another provider or nobody can open. */
  readonly resources: readonly Pick<Listed, "resource" | "expected">[];
  /** Resources with an object under another provider, whose keys the drill does not have. */
  readonly left: readonly string[];
  /** The names of the providers in kube-apiserver's EncryptionConfiguration. */
  readonly providers: readonly string[];
}

/** Returns what can be listed. */
export function listable(usages: readonly Usage[]): Listable {
  const expected = new Map<string, number>();
  const encrypted = new Set<string>();
  const left = new Set<string>();
  const providers = new Set<string>();
  for (const { protection, provider, resources } of usages) {
    // Of "kms:v2:NAME".
    if (protection === "kms-v2") providers.add(provider.split(":").slice(2).join(":"));
    for (const [resource, objects] of Object.entries(resources)) {
      if (resource === NO_API_OBJECT) continue;
      expected.set(resource, (expected.get(resource) ?? 0) + objects);
      if (protection === "kms-v2") encrypted.add(resource);
      if (protection === "other-provider") left.add(resource);
    }
  }
  const names = [...encrypted].filter((resource) => !left.has(resource)).sort();
  return {
    resources: names.map((resource) => ({ resource, expected: expected.get(resource) ?? 0 })),
    left: [...left].sort(),
    providers: [...providers].sort(),
  };
}
