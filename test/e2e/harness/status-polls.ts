// Status calls in place of an API server's, for plugins that have none: a KEK that is due is published by one.

import { KmsClient } from "../../../src/kms-client/kms-client.js";
import type { Plugin } from "./plugin.js";

const INTERVAL_MS = 500;

/** Calls the Status of every plugin again and again. Returns what ends that. */
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
