// A second start of the plugin while another plugin runs on the same token: the other mode, stale sockets, draining, a
// wrong PIN.

import { randomBytes } from "node:crypto";
import { chmodSync, existsSync, readdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

import { expect, it } from "vitest";

import { MAX_STREAMS } from "../../src/server/server.js";
import { FaultModule } from "../support/fault-module.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { kmsPkcs11 } from "../support/plugin-process.js";
import { tokenUri } from "../support/token.js";
import { waitFor } from "../support/wait.js";

const kms = usePlugin();

it("two plugins in different modes give one key_id and decrypt each other's ciphertexts", async () => {
  const { keyId } = await kms.client.status();
  const direct = await kms.client.encrypt(Buffer.from("direct"), "u");
  const again = await kms.add({ mode: "local-kek" });
  await again.start();
  expect((await again.client.status()).keyId).toBe(keyId);
  expect((await again.client.decrypt(direct, "u")).toString()).toBe("direct");
  const local = await again.client.encrypt(Buffer.from("local"), "u");
  expect(Object.keys(local.annotations)).toEqual(["local-kek.kms-pkcs11.dev"]);
  expect((await kms.client.decrypt(local, "u")).toString()).toBe("local");
  const swapped = { ...local, annotations: { "local-kek.kms-pkcs11.dev": direct.ciphertext } };
  await expect(kms.client.decrypt(swapped, "u")).rejects.toThrow(/^INVALID_ARGUMENT/);
  await expect(kms.client.decrypt({ ...local, annotations: {} }, "u")).rejects.toThrow(/^INVALID_ARGUMENT/);
});

it("a plugin removes a stale socket at the start, and its own socket at the stop", async () => {
  const { plugin: again } = await kms.add();
  await again.start();
  await again.stop("SIGKILL");
  expect(existsSync(again.socket)).toBe(true);
  await again.start();
  expect(await again.stop()).toBe(0);
  expect(existsSync(again.socket)).toBe(false);
});

it.each(["SIGTERM", "SIGINT"] as const)(
  "a plugin that gets %s during the start closes what it has opened",
  async (signal) => {
    const { plugin: again } = await kms.add();
    again.launch();
    await waitFor(() => again.log.includes("kms-pkcs11 starts"), { intervalMs: 5, timeoutMs: 20_000 });
    expect(await again.stop(signal)).toBe(0);
    expect(again.log).toContain("kms-pkcs11 stopped");
    expect(existsSync(again.socket)).toBe(false);
  },
);

it("serve refuses a path that is not a socket, or a folder open to others, before any login", async () => {
  const fault = new FaultModule(kms.token);
  const { plugin: again } = await kms.add({}, { token: fault });
  writeFileSync(again.socket, "mine");
  const file = kmsPkcs11(["serve", "--config", again.configFile], kms.token.env);
  expect([file.code, file.stderr]).toEqual([2, expect.stringContaining("is not a socket; left untouched")]);
  chmodSync(dirname(again.socket), 0o777);
  const open = kmsPkcs11(["serve", "--config", again.configFile], kms.token.env);
  expect([open.code, open.stderr]).toEqual([2, expect.stringContaining("can be written by others")]);
  expect(fault.calls()).toBe(0);
  fault.remove();
});

it("a plugin that stops lets requests under way finish", async () => {
  const { plugin: again, client } = await kms.add();
  await again.start();
  await client.status();
  // As many as the plugin advertises streams: grpc-js queues any more, which end as INTERNAL when the connection ends.
  const answers = Array.from({ length: MAX_STREAMS }, () => client.encrypt(randomBytes(32), "drain"));
  await answers[0];
  const stopped = again.stop();
  const ended = await Promise.allSettled(answers);
  expect(await stopped).toBe(0);
  const refused = ended.filter((one) => one.status === "rejected").map((one) => String(one.reason));
  for (const reason of refused) expect(reason).toMatch(/UNAVAILABLE/);
});

it("a wrong PIN costs one attempt, and the plugin serves once the PIN is corrected", async () => {
  const { plugin: again, client } = await kms.add();
  const pinFile = `${again.folder}/pin`;
  writeFileSync(pinFile, "wrong", { mode: 0o600 });
  again.configure({ keys: { uri: tokenUri({ ...kms.token, pinFile }, "kms-kek") } });
  again.launch();
  const refusal = (): Promise<string> => client.status().then(String, String);
  await waitFor(async () => /FAILED_PRECONDITION.*CKR_PIN_INCORRECT/.test(await refusal()));
  expect(again.running).toBe(true);
  expect(readdirSync(again.stateDir)).toContain("pin-refused.json");
  writeFileSync(pinFile, kms.token.pin);
  await waitFor(async () => (await client.status()).healthz === "ok");
});
