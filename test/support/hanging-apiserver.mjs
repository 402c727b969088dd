// Stands in for the kube-apiserver of a drill: it is ready, serves Secrets, and never answers a LIST of them.
// Arguments: a folder with cert.pem and key.pem, where it writes the file "asked" at that LIST, and those of kube-apiserver.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import { join } from "node:path";

const [folder, ...args] = process.argv.slice(2);
const valueOf = (flag) => args.find((arg) => arg.startsWith(`${flag}=`)).slice(flag.length + 1);
const at = (name) => join(folder, name);
const secrets = { resource: "secrets", scope: "Namespaced", verbs: ["list"] };
const core = { metadata: {}, versions: [{ version: "v1", resources: [secrets] }] };

const server = createServer({ cert: readFileSync(at("cert.pem")), key: readFileSync(at("key.pem")) });
server.on("request", ({ url }, response) => {
  if (url.startsWith("/api/v1/secrets")) return writeFileSync(at("asked"), String(process.pid));
  const items = url === "/api" ? [core] : [];
  response.setHeader("Content-Type", "application/json");
  return response.end(JSON.stringify({ kind: "APIGroupDiscoveryList", items }));
});
server.listen(Number(valueOf("--secure-port")), "127.0.0.1", () => {
  mkdirSync(valueOf("--cert-dir"), { recursive: true });
  copyFileSync(at("cert.pem"), join(valueOf("--cert-dir"), "apiserver.crt"));
});
