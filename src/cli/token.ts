// The HSM for the length of one command: one token host on the preferred token, started, used and stopped. A
// wrong PIN is spent once here too, and remembered where the plugin remembers it.
import type { Settings } from "../config/settings.js";
import type { TokenHsm } from "../hsm/token-hsm.js";
import type { Log } from "../log.js";
import { openToken } from "../open-tokens.js";

const SILENT: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};
const UNOBSERVED = { hsmCallDone: () => undefined, hostEnded: () => undefined };
const STOP_MS = 1_000;

/** @throws KmsError, such as why the token cannot be had */
export async function withToken<T>(settings: Settings, use: (hsm: TokenHsm) => Promise<T>): Promise<T> {
  const [token] = settings.tokens;
  const hsm = openToken({ settings, token, hosts: 1, observer: UNOBSERVED, log: SILENT, env: process.env });
  hsm.start();
  try {
    return await use(hsm);
  } finally {
    await hsm.stop(STOP_MS);
  }
}
