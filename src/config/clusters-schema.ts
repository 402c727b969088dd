// The options of the clusters that one plugin serves. Everything that is not listed here is common to all of them.
import { z } from "zod";
import { checkClusterName } from "./cluster-name.js";
import { keysSection } from "./keys-schema.js";
import { integer, optionalInteger, optionalText, requiredText } from "./option.js";
import { checkAbsolutePath } from "./pin-source-name.js";
import { socketSection } from "./socket-schema.js";
import { failoverSection } from "./token-schema.js";

/** Bounds the series of the metrics, and the keys that one reading of a token returns. */
const MAX_CLUSTERS = 200;

const clusterSchema = z.strictObject({
  name: requiredText({
    range: "1 to 63 lower-case letters, digits and hyphens, such as tenant-a",
    read: checkClusterName,
    why: "Name of the cluster: in `--cluster`, metrics, the log and paths",
  }),
  socket: socketSection.prefault({}),
  keys: keysSection,
  failover: failoverSection,
  requests: integer({
    least: 1,
    most: 256,
    preset: 32,
    why: "Number of the cluster's requests that are served at once; further ones wait",
  }),
  cache: z
    .strictObject({
      entries: optionalInteger({
        least: 0,
        most: 1_000_000,
        why: "Number of the cluster's decrypted DEK seeds kept in memory; as in the common `cache` if omitted",
      }),
    })
    .prefault({}),
  audit: z
    .strictObject({
      file: optionalText({
        range: "an absolute path",
        read: checkAbsolutePath,
        why: "File of the cluster's audit log; if omitted, that of the common `audit` with the cluster's name in front, such as tenant-a.audit.log",
      }),
    })
    .prefault({}),
});

export const clustersSection = z.array(clusterSchema).max(MAX_CLUSTERS).prefault([]);
