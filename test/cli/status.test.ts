// `kms-pkcs11 status` without --socket: the configuration names the socket.
import { expect, it } from "vitest";

import { runCommand } from "../support/command.js";
import { usePlugin } from "../support/plugin-fixture.js";

const kms = usePlugin();

it("status calls the socket of --config, or of the file that the environment names", async () => {
  const { configFile, socket } = kms.plugin;
  const given = [
    [["--config", configFile], {}],
    [[], { KMS_PKCS11_CONFIG: configFile }],
    // An option takes precedence, and the file is not read.
    [["--socket", socket], { KMS_PKCS11_CONFIG: "/nowhere.yaml" }],
  ] as const;
  for (const [options, env] of given) {
    const { code, stdout } = await runCommand(["status", ...options], env);
    expect([options, code, stdout]).toEqual([options, 0, expect.stringMatching(/^healthz +ok$/m)]);
  }
});

it("status with a configuration that cannot be read says so instead of calling another socket", async () => {
  const { code, stderr } = await runCommand(["status", "--config", "/nowhere.yaml"]);
  expect([code, stderr]).toEqual([2, expect.stringContaining("/nowhere.yaml: cannot be read")]);
});
