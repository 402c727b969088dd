// In place of `etcdctl snapshot save FILE`: saves what the Snapshot call of etcd returns, through its JSON gateway.

import { writeFileSync } from "node:fs";
import process from "node:process";

const { fetch } = globalThis;
const [command, action, file] = process.argv.slice(2);
if (command !== "snapshot" || action !== "save" || file === undefined) {
  throw new Error(`this stand-in only performs: etcdctl snapshot save FILE`);
}
const endpoint = process.env["ETCDCTL_ENDPOINTS"] ?? "";
const response = await fetch(`${endpoint}/v3/maintenance/snapshot`, { method: "POST", body: "{}" });
if (!response.ok) throw new Error(`${endpoint}: ${response.status} ${await response.text()}`);
const parts = [...(await response.text()).matchAll(/"blob":"([^"]*)"/g)];
writeFileSync(file, Buffer.concat(parts.map(([, part]) => Buffer.from(part, "base64"))));
console.log(`Snapshot saved at ${file}`);
