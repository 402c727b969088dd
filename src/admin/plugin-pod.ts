// What the plugin's static pod gives to the HSM's library beyond the user: variables and groups. Root's commands act as the pod's
// user and need them too. Reads the manifest, so that it is known before the pod has started.
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { z } from "zod";
import { POD_MANIFEST, RKE2_POD_MANIFEST } from "../config/location.js";
import type { PluginUnit } from "./plugin-unit.js";

/** Finds shared libraries that the image lacks; commands on the node have the node's. */
const OF_THE_IMAGE = "LD_LIBRARY_PATH";

const POD = z.object({
  spec: z.object({
    securityContext: z.object({
      runAsUser: z.number(),
      supplementalGroups: z.array(z.number()).default([]),
    }),
    containers: z.array(
      z.object({ env: z.array(z.object({ name: z.string(), value: z.string().optional() })).default([]) }),
    ),
  }),
});

/** Returns what the pod gives; undefined if this node has no such pod. */
export function pluginPod(): PluginUnit | undefined {
  for (const path of [POD_MANIFEST, RKE2_POD_MANIFEST]) {
    try {
      return parsePod(readFileSync(path, "utf8"));
    } catch {
      // Without its manifest, groups of a running plugin still count.
    }
  }
  return undefined;
}

/** Reads the manifest. Returns undefined if it is no pod with a user. */
export function parsePod(text: string): PluginUnit | undefined {
  const { data } = POD.safeParse(parse(text));
  if (data === undefined) return undefined;
  const { containers, securityContext } = data.spec;
  const variables = (containers[0]?.env ?? []).flatMap(({ name, value }) =>
    value === undefined || name === OF_THE_IMAGE ? [] : [[name, value] as const],
  );
  return {
    user: String(securityContext.runAsUser),
    groups: securityContext.supplementalGroups.map(String),
    environment: Object.fromEntries(variables),
  };
}
