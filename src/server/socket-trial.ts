// Finds out for `check` whether a socket could be bound, by binding another one beside it with the same code.
import { randomBytes } from "node:crypto";
import { createServer } from "node:net";
import { basename, dirname, join } from "node:path";
import { bindSocket, type SocketSettings } from "./socket.js";
import { listensThere, requireShortPath, safeFolder } from "./socket-path.js";

/** Random bytes in the name of the trial. */
const TRIAL_NAME_BYTES = 3;

/**
 * Finds out whether `bindSocket` would succeed, without touching the socket itself: binds another one beside it, and
 * removes it again. Returns whether a process listens on the socket already.
 * @param use receives the path of a socket that can be connected to with the same rights: the live one or the trial
 * @throws KmsError SOCKET_UNUSABLE
 */
export async function tryToBind(
  settings: SocketSettings,
  use: (path: string) => void | Promise<void> = () => undefined,
): Promise<boolean> {
  const path = join(safeFolder(settings.path), basename(settings.path));
  requireShortPath(path);
  const isLive = await listensThere(path);
  const trial = join(dirname(path), `.${randomBytes(TRIAL_NAME_BYTES).toString("hex")}`);
  const server = createServer();
  const bound = await bindSocket(server, { ...settings, path: trial }, () =>
    Promise.resolve("another check"),
  );
  try {
    await use(isLive ? path : trial);
  } finally {
    bound.remove();
    server.close();
  }
  return isLive;
}
