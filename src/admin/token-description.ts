// What a token says of itself before any login, which costs no PIN attempt.
import { hostAccess } from "../compose/tokens.js";
import type { Settings, TokenSettings } from "../config/settings.js";
import type { TokenDescription } from "../hsm/port.js";
import { TrialHost } from "../hsm/trial-host.js";
import { actingEnvironment, actingUser } from "./acting-user.js";
import { SILENT } from "./command-tokens.js";
import type { Operator } from "./operator.js";

/** Loads the library, finds the token and describes it, without a login. @throws KmsError */
export async function describeToken(
  settings: Settings,
  token: TokenSettings,
  operator: Operator,
): Promise<TokenDescription> {
  const user = actingUser(settings, operator);
  const env = actingEnvironment(user, process.env);
  const { host, gate } = hostAccess({ settings, token, log: SILENT, env, user });
  const { startTimeoutMs } = settings.hsm;
  const opened = new TrialHost({ host: { ...host, sessions: 1 }, gate, startTimeoutMs, log: SILENT });
  try {
    return await opened.open();
  } finally {
    await opened.stop();
  }
}
