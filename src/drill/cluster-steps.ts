// The steps of a drill with processes of its own: an etcd on the restored snapshot, a plugin, and an API server. A step whose
// programs are not on this machine is not rehearsed.
import { listThroughApiserver } from "./private-apiserver.js";
import { listable } from "./listing.js";
import { openNetwork, type Network } from "./network.js";
import { startPrivateEtcd, type PrivateEtcd } from "./private-etcd.js";
import { startPrivatePlugin, type PrivatePlugin } from "./private-plugin.js";
import type { DrillOptions, Stage } from "./stage.js";

/** An API server that cannot read all objects that it caches never becomes ready, so waiting longer is useless. In ms. */
const UNREADABLE_MS = 60_000;

/** Rehearses the steps from "etcd" on. Never throws. */
export async function rehearseCluster(options: DrillOptions, stage: Stage): Promise<void> {
  const { clock, folder, processes, settings } = stage;
  const etcd = await restoreEtcd(options, stage);
  const plugin = await clock.run("plugin", () =>
    startPrivatePlugin({ ...options, settings, folder, processes }),
  );
  try {
    await listObjects(options, stage, { etcd, plugin });
  } finally {
    // Logs the token out.
    await plugin?.stop();
  }
}

function missing(...names: readonly string[]): string {
  return `${names.join(" or ")} is not in PATH; give ${names.map((name) => `--${name}`).join(" and ")} to rehearse it`;
}

/** Starts etcd in a network of its own, on what is restored from the snapshot. */
async function restoreEtcd(
  { snapshot }: DrillOptions,
  { clock, programs: { etcd, etcdutl }, facts, processes, folder }: Stage,
): Promise<RestoredEtcd | undefined> {
  if (etcd === undefined || etcdutl === undefined) {
    clock.skip("etcd", missing("etcd", "etcdutl"));
    return undefined;
  }
  return clock.run("etcd", async () => {
    const network = await openNetwork(folder.path, processes);
    facts.isolation = network.isolation;
    const { file, bytes } = facts.snapshot;
    const given = { file, bytes, skipHashCheck: snapshot.skipHashCheck };
    const place = { etcd, etcdutl, folder: folder.path, snapshot: given, prefix: network.prefix, processes };
    return { ...(await startPrivateEtcd(place)), network };
  });
}

type RestoredEtcd = PrivateEtcd & { readonly network: Network };

interface Running {
  readonly etcd: RestoredEtcd | undefined;
  readonly plugin: PrivatePlugin | undefined;
}

async function listObjects(
  { prefix, readyMs }: DrillOptions,
  { clock, programs: { apiserver }, facts, processes }: Stage,
  { etcd, plugin }: Running,
): Promise<void> {
  const toList = listable(facts.content?.usages ?? []);
  const why =
    apiserver === undefined
      ? missing("kube-apiserver")
      : toList.resources.length === 0
        ? "the snapshot has no resource that only KMS v2 encrypts"
        : "an earlier step failed or was not rehearsed";
  const isPossible = toList.resources.length > 0 && etcd && plugin && apiserver;
  if (!isPossible) {
    clock.skip("apiserver", why);
    clock.skip("list", why);
    return;
  }
  const waitMs = clock.passed("objects") ? readyMs : Math.min(readyMs, UNREADABLE_MS);
  const place = { apiserver, etcd, network: etcd.network, processes, readyMs: waitMs, listable: toList };
  const all = { ...place, pluginSocket: plugin.socket, etcdPrefix: prefix };
  facts.listed = [...(await listThroughApiserver(all, clock))];
}
