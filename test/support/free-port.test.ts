import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { expect, it, onTestFinished } from "vitest";

import { freePort } from "./free-port.js";
import { waitFor } from "./wait.js";

const MODULE = fileURLToPath(new URL("free-port.ts", import.meta.url));
const OTHER = `const { freePort } = await import(process.argv[1]);
console.log(await freePort());
setInterval(() => undefined, 1000);`;

it("a port that another process has been given is free again when that process ends", async () => {
  const other = spawn(process.execPath, ["--input-type=module", "-e", OTHER, MODULE], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void other.kill("SIGKILL"));
  const [line] = (await once(createInterface({ input: other.stdout }), "line")) as [string];
  const port = Number(line);
  await expect(freePort(port, port + 1)).rejects.toThrow(`no free port on 127.0.0.1 from ${port} to ${port}`);
  other.kill("SIGKILL");
  expect(await waitFor(() => freePort(port, port + 1))).toBe(port);
});

it("a port is given once in a process", async () => {
  const port = await freePort();
  await expect(freePort(port, port + 1)).rejects.toThrow("no free port");
});

it("a free port is none that the kernel takes for outgoing connections", async () => {
  const [first] = readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8").split("\t");
  expect(await freePort()).toBeLessThan(Number(first));
});
