// The form of what a verification reports: its JSON output and the reports that contain it.
import { z } from "zod";

const count = z.int().min(0);

/** What was found in one resource. */
export const RESOURCE_COUNTS = {
  resource: z.string(),
  objects: count,
  opened: count.describe("decrypted and authenticated under their etcd keys"),
  plaintext: count,
  otherProvider: count.describe("not checked"),
  failed: count,
};

/** Why objects could not be decrypted. */
export const FAILED_REASON = {
  reason: z.string(),
  objects: count,
  keys: z.array(z.string()).describe("the first few etcd keys"),
};
