// Where the private API server listens: in a network namespace without a way out, if this user may make one; otherwise on a
// free loopback port. etcd listens on unix sockets in either case.
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { bareEnvironment, type ProcessGroup } from "./private-process.js";

const READY_MS = 10_000;
/** Nothing else listens in the namespace. */
const PORT = 6443;
const ENTERED = /^ready (\d+)$/m;

export interface Network {
  readonly isolation: "network namespace" | "loopback";
  /** Put before the command of each program. */
  readonly prefix: readonly string[];
  /** Returns a port for the API server. */
  readonly port: () => Promise<number>;
}

/** Makes a network namespace if this user may, or uses the machine's loopback. Never throws for lack of rights. */
export async function openNetwork(folder: string, processes: ProcessGroup): Promise<Network> {
  const isRoot = process.geteuid?.() === 0;
  const flags = isRoot ? ["--net"] : ["--user", "--map-root-user", "--net"];
  let said = "";
  const child = processes.start({
    name: "unshare",
    command: ["unshare", ...flags, "sh", "-c", 'ip link set lo up && echo "ready $$" && exec sleep infinity'],
    folder,
    env: bareEnvironment(folder),
    logFile: join(folder, "network.log"),
    onOutput: (text) => (said += text),
  });
  try {
    await child.until(() => ENTERED.test(said), READY_MS);
  } catch {
    await child.stop(false);
    return { isolation: "loopback", prefix: [], port: freePort };
  }
  const namespaces = `/proc/${ENTERED.exec(said)?.[1] ?? ""}/ns`;
  const user = isRoot ? [] : [`--user=${namespaces}/user`, "--preserve-credentials"];
  return {
    isolation: "network namespace",
    prefix: ["nsenter", ...user, `--net=${namespaces}/net`, "--"],
    port: () => Promise.resolve(PORT),
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
