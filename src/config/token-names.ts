// How approvals name the tokens of a configuration: as its URIs do.
import type { Settings } from "./settings.js";

/** Returns the label or serial number of every token; empty for a token that its URI does not name. */
export function tokenNames({ tokens }: Pick<Settings, "tokens">): string[] {
  return tokens.map(({ uri }) => uri.token ?? uri.serial ?? "");
}
