// What the self-tests of the fault module share: one SoftHSM token per file, one instance of the module per test, and
// clients that are ended after each test.

import { afterAll, afterEach, beforeAll } from "vitest";

import { FaultModule } from "./fault-module.js";
import { Pkcs11Client } from "./pkcs11-client.js";
import { createSoftHsm, type SoftHsm } from "./softhsm.js";

export interface FaultFixture {
  /** Returns this test's fault module, made on first use. */
  readonly fault: () => FaultModule;
  /** Returns another process on it, with a session and logged in. */
  readonly client: () => Promise<Pkcs11Client>;
  /** Returns another process on it that has not loaded the module yet. */
  readonly closedClient: () => Pkcs11Client;
}

/** Makes the token before the tests of a file, and removes module and clients after each test. */
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
