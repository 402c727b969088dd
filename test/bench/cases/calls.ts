// Calls into the HSM for each request, counted by the fault module.

import { KmsClient, type KmsCiphertext } from "../../../src/kms-client/kms-client.js";
import { FaultModule } from "../../support/fault-module.js";
import { PluginProcess } from "../../support/plugin-process.js";
import { waitFor } from "../../support/wait.js";
import type { BenchRun } from "../bench-run.js";
import { QUIET } from "../stage.js";

const FUNCTIONS = ["C_EncryptInit", "C_Encrypt", "C_DecryptInit", "C_Decrypt"];
const SEED = Buffer.alloc(32);
const TARGET = "4 / 0 / 2";

/** Counts the calls of Encrypt, of a Decrypt that the cache answers, and of one that it cannot. */
export async function calls({ stage, sizes, results }: BenchRun): Promise<void> {
  const fault = new FaultModule(stage.token);
  const cached = new PluginProcess(fault, QUIET);
  const plain = new PluginProcess(fault, { cache: { entries: 0 }, ...QUIET });
  try {
    const sealed = await sealOne(cached, fault);
    const counts = [
      await perRequest(cached, fault, sizes.countedRequests, (client) => client.encrypt(SEED, "count")),
      await perRequest(cached, fault, sizes.countedRequests, (client) => client.decrypt(sealed, "count")),
    ];
    await cached.stop();
    const other = await sealOne(plain, fault);
    counts.push(
      await perRequest(plain, fault, sizes.countedRequests, (client) => client.decrypt(other, "count")),
    );
    const measured = counts.map((count) => String(Math.round(count * 100) / 100)).join(" / ");
    results.finding({
      what: "calls into the HSM: Encrypt / cached Decrypt / Decrypt",
      target: TARGET,
      measured,
      // Proofs in the background are counted too.
      reached: counts.map(Math.round).join(" / ") === TARGET,
    });
  } finally {
    for (const plugin of [cached, plain]) {
      await plugin.stop();
      plugin.remove();
    }
    fault.remove();
  }
}

/** Starts a plugin, waits until its hosts have read the token, and makes one ciphertext. */
async function sealOne(plugin: PluginProcess, fault: FaultModule): Promise<KmsCiphertext> {
  const logins = fault.calls("C_Login");
  await plugin.start();
  await waitFor(() => fault.calls("C_Login") >= logins + 2, { what: "the warm token host" });
  let last = -1;
  await waitFor(() => last === (last = fault.calls()), {
    what: "a token that is left alone",
    intervalMs: 250,
  });
  const client = new KmsClient(plugin.socket);
  const sealed = await client.encrypt(SEED, "first");
  client.close();
  return sealed;
}

async function perRequest(
  plugin: PluginProcess,
  fault: FaultModule,
  requests: number,
  ask: (client: KmsClient) => Promise<unknown>,
): Promise<number> {
  const count = (): number => FUNCTIONS.reduce((sum, name) => sum + fault.calls(name), 0);
  const client = new KmsClient(plugin.socket);
  const before = count();
  for (let request = 0; request < requests; request++) await ask(client);
  client.close();
  return (count() - before) / requests;
}
