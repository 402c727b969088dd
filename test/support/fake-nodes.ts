// Nodes on loopback that answer /keys with what a test supplies.

import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";

import type { NodeKeyring } from "../../src/admin/node-client.js";
import { parseNodeAddresses } from "../../src/config/node-address.js";

export type KeysAnswer = Omit<NodeKeyring, "clockAheadMs" | "clockErrorMs">;
type KeyAnswer = KeysAnswer["keys"][number];

const HOUR_MS = 3_600_000;

/** Returns a standby KEK as a node lists it, active in an hour. */
export const standby = (keyId: string): KeyAnswer => ({
  keyId,
  label: `label of ${keyId}`,
  state: "standby",
  activation: new Date(Date.now() + HOUR_MS).toISOString(),
  provenAt: new Date().toISOString(),
  failure: null,
  notApproved: null,
  ckaId: "",
  cameLater: true,
});
export const ACTIVE = { ...standby("a"), state: "active", activation: null } as const;

export class FakeNodes {
  readonly #servers: Server[] = [];

  /** Returns the address of a node that lists KEK "a" as active and KEK "s" as standby, unless the answer differs. */
  node(answer: Partial<KeysAnswer> = {}, aheadMs = 0): Promise<URL> {
    return this.serve((_request, response) => {
      const now = new Date(Date.now() + aheadMs).toISOString();
      const usual = { activeKeyId: "a", publishedKeyId: "a", heldBack: null, keys: [standby("s"), ACTIVE] };
      response.end(JSON.stringify({ now, ...usual, ...answer }));
    });
  }

  /** Returns the address of a server that is not a plugin. */
  async serve(listener: RequestListener): Promise<URL> {
    const server = createServer(listener);
    this.#servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const [url] = parseNodeAddresses([`http://127.0.0.1:${(server.address() as AddressInfo).port}`]);
    if (url === undefined) throw new Error("no address");
    return url;
  }

  close(): void {
    for (const server of this.#servers.splice(0)) {
      server.closeAllConnections();
      server.close();
    }
  }
}
