// Starts the token host of a command that asks a token something before it logs in, or logs in with several PINs.
import { hostAccess } from "../compose/tokens.js";
import type { Settings, TokenSettings } from "../config/settings.js";
import type { Pin } from "../hsm/login/login-gate.js";
import { TrialHost } from "../hsm/trial-host.js";
import { actingEnvironment, actingUser } from "./acting-user.js";
import { SILENT } from "./command-tokens.js";
import type { Operator } from "./operator.js";

/** Starts the host of a token, which the caller opens and stops. @param suppliedPin replaces the configured PIN */
export function startTrialHost(
  settings: Settings,
  token: TokenSettings,
  operator: Operator,
  suppliedPin?: Pin,
): TrialHost {
  const user = actingUser(settings, operator);
  const env = actingEnvironment(user, process.env);
  const { host, gate } = hostAccess({ settings, token, log: SILENT, env, user, suppliedPin });
  const { startTimeoutMs } = settings.hsm;
  return new TrialHost({ host: { ...host, sessions: 1 }, gate, startTimeoutMs, log: SILENT });
}
