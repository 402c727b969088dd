// In place of `etcdutl version` and `etcdutl snapshot restore FILE --data-dir DIR`: starts an etcd on the folder and stores every
// object of the snapshot in it. Unlike etcdutl it starts with new revisions and without leases, which the cases do not need.

import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

const { fetch } = globalThis;
const built = (path) => import(new URL(`../../../../dist/etcd/snapshot/${path}`, import.meta.url));
const { Database } = await built("bucket.js");
const { changesFromEnd } = await built("revisions.js");
const { SnapshotFile } = await built("snapshot-file.js");

const [command, action, path, option, folder] = process.argv.slice(2);
if (command === "version") {
  console.log("etcdutl version: stand-in");
  process.exit();
}
if (command !== "snapshot" || action !== "restore" || option !== "--data-dir" || folder === undefined) {
  throw new Error("this stand-in only performs: etcdutl snapshot restore FILE --data-dir DIR");
}

const client = `http://127.0.0.1:${await freePort()}`;
const peer = `http://127.0.0.1:${await freePort()}`;
const args = [
  `--data-dir=${folder}`,
  `--listen-client-urls=${client}`,
  `--advertise-client-urls=${client}`,
  `--listen-peer-urls=${peer}`,
  `--initial-advertise-peer-urls=${peer}`,
  `--initial-cluster=default=${peer}`,
  "--log-level=error",
];
const etcd = spawn("etcd", args, { stdio: ["ignore", "inherit", "inherit"] });
process.on("exit", () => etcd.kill("SIGKILL"));
while (!(await isHealthy())) await sleep(100);
for (const [key, value] of await latest()) await put(key, value);
etcd.kill("SIGTERM");
await once(etcd, "exit");

async function latest() {
  const file = await SnapshotFile.open(path);
  await file.verify({ skipHashCheck: false });
  const values = new Map();
  for (const { changes } of changesFromEnd(new Database(file), file)) {
    for (const { entry, isDeletion } of changes) {
      const key = entry.key.toString("base64");
      if (!values.has(key)) values.set(key, isDeletion ? undefined : entry.value.toString("base64"));
    }
  }
  await file.close();
  return [...values].filter(([, value]) => value !== undefined);
}

async function put(key, value) {
  const response = await fetch(`${client}/v3/kv/put`, {
    method: "POST",
    body: JSON.stringify({ key, value }),
  });
  if (!response.ok) throw new Error(await response.text());
}

async function isHealthy() {
  if (etcd.exitCode !== null) throw new Error("etcd has ended");
  return fetch(`${client}/health`).then(
    ({ ok }) => ok,
    () => false,
  );
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  return port;
}
