// What the self-tests of the fault module share: one SoftHSM token a file, one instance of the module a test, and
// clients that are gone when the test is.

import { afterAll, afterEach, beforeAll } from "vitest";

import { FaultModule } from "./fault-module.js";
import { Pkcs11Client } from "./pkcs11-client.js";
import { createSoftHsm, type SoftHsm } from "./softhsm.js";

export interface FaultFixture {
  /** The fault module of this test, made on first use. */
  readonly fault: () => FaultModule;
  /** Another process on it, with a session and logged in. */
  readonly client: () => Promise<Pkcs11Client>;
  /** Another process on it that has loaded nothing yet. */
  readonly closedClient: () => Pkcs11Client;
}

export function useFaultModule(): FaultFixture {
  let softHsm: SoftHsm | undefined;
  let fault: FaultModule | undefined;
  let clients: Pkcs11Client[] = [];

  const module = (): FaultModule => {
    if (softHsm === undefined) throw new Error("only inside a test");
    return (fault ??= new FaultModule(softHsm));
  };
  const closedClient = (): Pkcs11Client => {
    const client = new Pkcs11Client(module());
    clients.push(client);
    return client;
  };

  beforeAll(() => {
    softHsm = createSoftHsm();
  });
  afterEach(async () => {
    await Promise.all(clients.map((client) => client.kill()));
    clients = [];
    fault?.remove();
    fault = undefined;
  });
  afterAll(() => softHsm?.remove());

  return {
    fault: module,
    closedClient,
    client: async () => {
      const client = closedClient();
      await client.open();
      return client;
    },
  };
}
