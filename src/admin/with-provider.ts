// Decrypts as the plugin does, for the length of one command: on the preferred token and, if that is away or fails, on
// the next. Nothing runs in the background.
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import { FailoverHsm } from "../hsm/failover/failover.js";
import type { Hsm } from "../hsm/port.js";
import type { KmsProvider } from "../provider/kms.js";
import { openProvider } from "../compose/provider.js";
import { IncompleteHsm } from "./incomplete-hsm.js";
import type { Operator } from "./operator.js";
import { SILENT, withTokens, type Token } from "./command-tokens.js";

/** Opens the tokens and runs work with a provider on them. @throws KmsError, such as why no token is available */
export function withProvider<T>(
  settings: Settings,
  operator: Operator,
  use: (provider: Pick<KmsProvider, "decrypt">) => Promise<T>,
): Promise<T> {
  return withTokens(settings, operator, (tokens) => withProviderOn(tokens, settings, operator, use));
}

/** Runs work with a provider on tokens that are open. @throws KmsError why no token is available */
export async function withProviderOn<T>(
  tokens: readonly Token[],
  settings: Settings,
  operator: Operator,
  use: (provider: Pick<KmsProvider, "decrypt">) => Promise<T>,
): Promise<T> {
  const running = openProvider(settings, combine(settings, tokens, operator), SILENT);
  try {
    return await use(running.provider);
  } finally {
    running.stop();
  }
}

/** Combines the readable tokens into one HSM and reports the unreadable ones. */
function combine(settings: Settings, tokens: readonly Token[], operator: Operator): Hsm {
  const away = tokens.flatMap(({ name, failure }) => (failure === undefined ? [] : [{ name, failure }]));
  const members = tokens.filter(({ failure }) => failure === undefined);
  const [first, second] = members;
  if (first === undefined) throw noneReadable(away);
  for (const { name, failure } of away) {
    operator.notify(`${name}: ${failure.message}; using ${members.map((one) => one.name).join(", ")}`);
  }
  const { requestTimeoutMs } = settings.hsm;
  const readable =
    second === undefined ? first.hsm : new FailoverHsm({ members, requestTimeoutMs, log: SILENT });
  const [unread] = away;
  return unread === undefined ? readable : new IncompleteHsm(readable, unread);
}

function noneReadable(away: readonly { readonly name: string; readonly failure: KmsError }[]): KmsError {
  const [preferred, ...others] = away;
  if (preferred === undefined) return new KmsError("HSM_UNAVAILABLE", "no token is configured");
  if (others.length === 0) return preferred.failure;
  const reasons = away.map(({ name, failure }) => `${name}: ${failure.message}`).join("\n");
  return new KmsError(preferred.failure.code, `no token is available:\n${reasons}`, preferred.failure);
}
