// A second start of the plugin while another plugin runs on the same token: the other mode, stale sockets, draining, a
// wrong PIN.

import { randomBytes } from "node:crypto";
import { chmodSync, existsSync, readdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

import { afterEach, expect, it } from "vitest";

import { MAX_STREAMS } from "../../src/server/server.js";
import { KmsClient } from "../../src/kms-client/kms-client.js";
import { FaultModule } from "../support/fault-module.js";
import { usePlugin } from "../support/plugin-fixture.js";
import { kmsPkcs11, PluginProcess } from "../support/plugin-process.js";
import { tokenUri } from "../support/token.js";
import { waitFor } from "../support/wait.js";

const kms = usePlugin();
let again: PluginProcess;

afterEach(async () => {
  await again.stop();
  again.remove();
});

const withClient = async <T>(use: (other: KmsClient) => Promise<T>): Promise<T> => {
  const other = new KmsClient(again.socket);
  try {
    return await use(other);
  } finally {
    other.close();
  }
};

it("gives the same key_id, and opens what either mode sealed before, in both modes", async () => {
  const { keyId } = await kms.client.status();
  const direct = await kms.client.encrypt(Buffer.from("direct"), "u");
  again = new PluginProcess(kms.token, { mode: "local-kek" });
  await again.start();
  const local = await withClient(async (other) => {
    expect((await other.status()).keyId).toBe(keyId);
    expect((await other.decrypt(direct, "u")).toString()).toBe("direct");
    return other.encrypt(Buffer.from("local"), "u");
  });
  expect(Object.keys(local.annotations)).toEqual(["local-kek.kms-pkcs11.dev"]);
  expect((await kms.client.decrypt(local, "u")).toString()).toBe("local");
  const swapped = { ...local, annotations: { "local-kek.kms-pkcs11.dev": direct.ciphertext } };
  await expect(kms.client.decrypt(swapped, "u")).rejects.toThrow(/^INVALID_ARGUMENT/);
  await expect(kms.client.decrypt({ ...local, annotations: {} }, "u")).rejects.toThrow(/^INVALID_ARGUMENT/);
});

it("removes a stale socket at the start, and its own socket at the stop", async () => {
  again = new PluginProcess(kms.token);
  await again.start();
  await again.stop("SIGKILL");
  expect(existsSync(again.socket)).toBe(true);
  await again.start();
  expect(await again.stop()).toBe(0);
  expect(existsSync(again.socket)).toBe(false);
});

it.each(["SIGTERM", "SIGINT"] as const)(
  "closes what it has opened on a %s during the start",
  async (signal) => {
    again = new PluginProcess(kms.token);
    again.launch();
    await waitFor(() => again.log.includes("kms-pkcs11 starts"), { intervalMs: 5, timeoutMs: 20_000 });
    expect(await again.stop(signal)).toBe(0);
    expect(again.log).toContain("kms-pkcs11 stopped");
    expect(existsSync(again.socket)).toBe(false);
  },
);

it("refuses a path that is not a socket, or a folder writable by others, before any login", () => {
  const fault = new FaultModule(kms.token);
  again = new PluginProcess(fault);
  writeFileSync(again.socket, "mine");
  const file = kmsPkcs11(["serve", "--config", again.configFile], kms.token.env);
  expect([file.code, file.stderr]).toEqual([2, expect.stringContaining("is not a socket; left untouched")]);
  chmodSync(dirname(again.socket), 0o777);
  const open = kmsPkcs11(["serve", "--config", again.configFile], kms.token.env);
  expect([open.code, open.stderr]).toEqual([2, expect.stringContaining("can be written by others")]);
  expect(fault.calls()).toBe(0);
  fault.remove();
});

it("lets requests under way finish at a stop", async () => {
  again = new PluginProcess(kms.token);
  await again.start();
  await withClient(async (other) => {
    await other.status();
    // As many as the plugin advertises streams: grpc-js queues any more, which end as INTERNAL when the connection
    // ends.
    const answers = Array.from({ length: MAX_STREAMS }, () => other.encrypt(randomBytes(32), "drain"));
    await answers[0];
    const stopped = again.stop();
    const ended = await Promise.allSettled(answers);
    expect(await stopped).toBe(0);
    const refused = ended.filter((one) => one.status === "rejected").map((one) => String(one.reason));
    for (const reason of refused) expect(reason).toMatch(/UNAVAILABLE/);
  });
});

it("stays up after one attempt with a wrong PIN, and recovers once the PIN is corrected", async () => {
  again = new PluginProcess(kms.token);
  const pinFile = `${again.folder}/pin`;
  writeFileSync(pinFile, "wrong", { mode: 0o600 });
  again.configure({ keys: { uri: tokenUri({ ...kms.token, pinFile }, "kms-kek") } });
  again.launch();
  await withClient(async (other) => {
    const refusal = (): Promise<string> => other.status().then(String, String);
    await waitFor(async () => /FAILED_PRECONDITION.*CKR_PIN_INCORRECT/.test(await refusal()), {
      timeoutMs: 20_000,
    });
    expect(again.running).toBe(true);
    expect(readdirSync(again.stateDir)).toContain("pin-refused.json");
    writeFileSync(pinFile, kms.token.pin);
    await waitFor(async () => (await other.status()).healthz === "ok", { timeoutMs: 20_000 });
  });
});
