// A TPM 2.0 in software on a node (swtpm), which tpm2-abrmd offers on the node's D-Bus, as it offers /dev/tpmrm0 elsewhere.

import { until } from "../../e2e/harness/wait.js";
import type { Machine } from "./machine.js";

const AS_TSS = "setpriv --reuid=tss --regid=tss --init-groups";
const SOCKET = "/run/tpm/socket";
const IS_ON_BUS =
  "dbus-send --system --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.NameHasOwner " +
  "string:com.intel.tss2.Tabrmd";

/** Starts the daemons, and returns when tpm2-abrmd is on the bus. */
export async function startTpm(node: Machine): Promise<void> {
  await node.run("mkdir -p /run/dbus && dbus-daemon --system --fork");
  await node.run("install -d -o tss -g tss /run/tpm /run/tpm/state");
  const sockets = `--server type=unixio,path=${SOCKET} --ctrl type=unixio,path=${SOCKET}.ctrl`;
  await daemon(
    node,
    `swtpm socket --tpm2 --tpmstate dir=/run/tpm/state --flags not-need-init,startup-clear ${sockets}`,
  );
  await until("swtpm", async () => (await node.try(`test -S ${SOCKET} -a -S ${SOCKET}.ctrl`)).code === 0);
  await daemon(node, `tpm2-abrmd --tcti=swtpm:path=${SOCKET}`);
  await until("tpm2-abrmd", async () => (await node.try(IS_ON_BUS)).stdout.includes("true"));
}

async function daemon(node: Machine, command: string): Promise<void> {
  await node.run(`setsid ${AS_TSS} ${command} >>/run/tpm/log 2>&1 </dev/null &`);
}
