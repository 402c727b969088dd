// What decrypts as the plugin does, for the length of one command; nothing in it runs in the background.
import type { Settings } from "../config/settings.js";
import type { KmsProvider } from "../provider/kms.js";
import { openProvider } from "../serve.js";
import { SILENT, withToken } from "./token.js";

/** On the preferred token. @throws KmsError, such as why it cannot be had */
export function withProvider<T>(
  settings: Settings,
  use: (provider: Pick<KmsProvider, "decrypt">) => Promise<T>,
): Promise<T> {
  return withToken(settings, async (hsm) => {
    const room = openProvider(settings, hsm, SILENT);
    try {
      return await use(room.provider);
    } finally {
      room.stop();
    }
  });
}
