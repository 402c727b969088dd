// Names a token in the records of logins, so that a record of one token is not applied to another.
import { createHash } from "node:crypto";
import type { TokenDescription } from "../port.js";

/** Returns a digest of what identifies the token. Frozen: records in state directories carry it. */
export function nameToken({ label, serial, manufacturer, model }: TokenDescription): string {
  return createHash("sha256")
    .update(JSON.stringify([label, serial, manufacturer, model]))
    .digest("hex")
    .slice(0, 32);
}
