// The shares on pages that `custody split` and `custody renew` have written.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Returns the shares of a folder's pages in the order of their indexes. */
export function sharesIn(pages: string): string[] {
  return readdirSync(pages)
    .sort()
    .map((name) => /<pre>([^<]*)<\/pre>/.exec(readFileSync(join(pages, name), "utf8"))?.[1] ?? "")
    .map((text) => text.replaceAll(/\s/g, ""));
}
