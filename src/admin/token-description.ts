// What a token reports about itself before any login, which costs no PIN attempt.
import type { Settings, TokenSettings } from "../config/settings.js";
import type { TokenDescription } from "../hsm/port.js";
import type { Operator } from "./operator.js";
import { startTrialHost } from "./trial-host.js";

/** Loads the library, finds the token and describes it, without a login. @throws KmsError */
export async function describeToken(
  settings: Settings,
  token: TokenSettings,
  operator: Operator,
): Promise<TokenDescription> {
  const host = startTrialHost(settings, token, operator);
  try {
    return await host.open();
  } finally {
    await host.stop();
  }
}
