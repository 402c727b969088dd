// ssh between nodes: root of one logs in to itself and to the others, without a question. Knows nothing about clusters.

import type { Machine } from "./machine.js";

const KEY = "/etc/ssh/node_key";

const SERVER = `HostKey ${KEY}
AuthorizedKeysFile ${KEY}.pub
PidFile none
Subsystem sftp internal-sftp
`;
const CLIENT = `IdentityFile ${KEY}
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
LogLevel ERROR
`;

/**
 * Starts an ssh server on each node. All share one key, as users and as hosts.
 * @param path the path of a command that another node runs
 */
export async function allowRemoteLogin(nodes: readonly Machine[], path: string): Promise<void> {
  const [first] = nodes;
  await first?.run(`ssh-keygen -q -t ed25519 -N '' -f ${KEY}`);
  const [secret, shown] = [await first?.run(`cat ${KEY}`), await first?.run(`cat ${KEY}.pub`)];
  for (const node of nodes) {
    await node.run(`install -m 0600 /dev/stdin ${KEY}`, { input: secret });
    await node.run(`install -m 0644 /dev/stdin ${KEY}.pub`, { input: shown });
    await node.run("install -m 0644 /dev/stdin /etc/ssh/ssh_config", { input: CLIENT });
    await node.run("install -m 0600 /dev/stdin /etc/ssh/sshd_config", {
      input: `${SERVER}SetEnv PATH=${path}\n`,
    });
    await node.run("mkdir -p /run/sshd && /usr/sbin/sshd");
  }
}
