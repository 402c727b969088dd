// Status calls for plugins that have no API server: without a Status call, a due KEK is not published.

import { KmsClient } from "../../../src/kms-client/kms-client.js";
import type { Plugin } from "./plugin.js";

const INTERVAL_MS = 500;

/** Calls Status of every plugin repeatedly. Returns a function that stops this. */
export function pollStatus(plugins: readonly Plugin[]): () => void {
  const clients = plugins.map(({ places }) => new KmsClient(places.socket));
  const timer = setInterval(() => {
    for (const client of clients) client.status().catch(() => undefined);
  }, INTERVAL_MS);
  return () => {
    clearInterval(timer);
    for (const client of clients) client.close();
  };
}
