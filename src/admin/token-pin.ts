// The PIN of a token, for commands that seal it: taken from its source once the token has accepted it, so that a typing
// error is not sealed.
import { readPin } from "../config/read-pin.js";
import type { Settings, TokenSettings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import { requireAll, withTokens } from "./command-tokens.js";
import type { Operator } from "./operator.js";

/**
 * Logs in to the token and returns the PIN for the caller to zero. A wrong PIN costs one PIN attempt.
 * @throws KmsError, such as PIN_REFUSED or CONFIG_INVALID for a token without a PIN
 */
export async function acceptedPin(
  settings: Settings,
  operator: Operator,
  token: TokenSettings,
): Promise<Buffer> {
  const only: Settings = { ...settings, tokens: [token] };
  await withTokens(only, operator, (tokens) => {
    requireAll(tokens, "its PIN was not used");
    return Promise.resolve();
  });
  const pin = (await operator.pins.supplied(only, token))?.read() ?? readPin(token.pin, process.env);
  if (pin !== undefined) return pin;
  throw new KmsError("CONFIG_INVALID", "this token needs no PIN");
}
