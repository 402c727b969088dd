// HTTP requests to a node's plugin through a tunnel of ssh.
import { request, type IncomingMessage } from "node:http";
import type { SshNode } from "../config/node-address.js";
import { tunnelTo } from "./ssh-tunnel.js";

/** Waits for the tunnel to a node. @throws Error with ssh's reason */
export async function openTunnel(node: SshNode): Promise<void> {
  await tunnelTo(node).socket();
}

/** Sends one GET request. @throws Error with ssh's reason, or as node:http @param limitMs for the answer */
export async function getThroughSsh(
  node: SshNode,
  limitMs: number,
): Promise<{ readonly status: number; readonly body: AsyncIterable<Uint8Array> }> {
  const tunnel = tunnelTo(node);
  const socketPath = await tunnel.socket();
  try {
    const response = await get(node, socketPath, limitMs);
    return { status: response.statusCode ?? 0, body: response };
  } catch (error) {
    // ssh accepts the connection, and closes it if it cannot reach the address on the node.
    const isClosed = ["ECONNRESET", "EPIPE"].includes((error as NodeJS.ErrnoException).code ?? "");
    const complaint = isClosed ? await tunnel.complaint() : undefined;
    throw complaint === undefined ? error : new Error(complaint);
  }
}

function get({ http, path }: SshNode, socketPath: string, limitMs: number): Promise<IncomingMessage> {
  const signal = AbortSignal.timeout(limitMs);
  return new Promise((resolve, reject) => {
    const options = { socketPath, path, headers: { host: http }, agent: false, signal };
    request(options, resolve).once("error", reject).end();
  });
}
