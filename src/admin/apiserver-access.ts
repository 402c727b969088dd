// Whether kube-apiserver's user may open the plugin's socket: the user and groups of a running kube-apiserver, or of its
// static pod, and a connection that a child process with those rights makes.
import { spawnSync } from "node:child_process";
import { readFileSync, readlinkSync } from "node:fs";
import { basename, dirname } from "node:path";
import { z } from "zod";
import { parseConfiguration } from "../config/file.js";
import type { HostUser } from "../hsm/wire-user.js";
import { runningProcesses } from "./running-processes.js";

export const APISERVER_MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml";

/** The user of kube-apiserver, and where it was found. */
export interface ApiserverUser extends HostUser {
  readonly source: string;
  /** Only the socket's folder is mounted into a container; the folders above it do not matter. */
  readonly isContained: boolean;
}

const id = z.int().min(0).optional();
const security = z
  .object({ runAsUser: id, runAsGroup: id, fsGroup: id, supplementalGroups: z.array(z.int()).optional() })
  .optional();
const pod = z.object({
  spec: z.object({
    securityContext: security,
    containers: z.array(z.object({ securityContext: security })).min(1),
  }),
});

/** Returns the user of a running kube-apiserver, else of its static pod's manifest, else root. @throws KmsError */
export function findApiserverUser(manifest = APISERVER_MANIFEST, proc = "/proc"): ApiserverUser {
  return fromProcess(proc) ?? fromManifest(manifest) ?? ROOT;
}

const ROOT: ApiserverUser = {
  uid: 0,
  gid: 0,
  groups: [],
  isContained: true,
  source: "the default: neither a process nor a static pod was found",
};

function fromProcess(proc: string): ApiserverUser | undefined {
  for (const { pid, name, numbers } of runningProcesses(proc)) {
    if (name !== "kube-apiserver") continue;
    try {
      const isContained = readlinkSync(`${proc}/${pid}/ns/mnt`) !== readlinkSync("/proc/self/ns/mnt");
      const [[, uid = 0], [, gid = 0]] = [numbers("Uid"), numbers("Gid")];
      return { uid, gid, groups: numbers("Groups"), isContained, source: `process ${pid}` };
    } catch {
      // It has ended.
    }
  }
  return undefined;
}

function fromManifest(path: string): ApiserverUser | undefined {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch {
    return undefined;
  }
  const parsed = pod.safeParse(parseConfiguration(bytes, path, "kubernetes"));
  if (!parsed.success) return undefined;
  const { securityContext: ofPod, containers } = parsed.data.spec;
  const own = containers[0]?.securityContext;
  const uid = own?.runAsUser ?? ofPod?.runAsUser ?? 0;
  const gid = own?.runAsGroup ?? ofPod?.runAsGroup ?? 0;
  const groups = [
    ...(ofPod?.supplementalGroups ?? []),
    ...(ofPod?.fsGroup === undefined ? [] : [ofPod.fsGroup]),
  ];
  return { uid, gid, groups, isContained: true, source: path };
}

/** Takes the rights of the user, connects, and prints the code of an error. */
const CONNECT = `
const { uid, gid, groups, folder, address } = JSON.parse(process.argv[1]);
process.chdir(folder);
process.setgroups(groups);
process.setgid(gid);
process.setuid(uid);
require("node:net").connect(address)
  .once("connect", () => process.exit(0))
  .once("error", ({ code }) => { process.stdout.write(String(code)); process.exit(1); });
`;
const LIMIT_MS = 10_000;

/** Returns why this user cannot connect to the socket, as an error code; undefined if it can. Only for root. */
export function connectionProblem(
  path: string,
  { isContained, uid, gid, groups }: ApiserverUser,
): string | undefined {
  const [folder, address] = isContained ? [dirname(path), `./${basename(path)}`] : ["/", path];
  const argument = JSON.stringify({ uid, gid, groups, folder, address });
  const { status, stdout, error } = spawnSync(process.execPath, ["-e", CONNECT, argument], {
    env: {},
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
    timeout: LIMIT_MS,
  });
  return status === 0 ? undefined : stdout || (error?.message ?? "the connection was not made");
}
