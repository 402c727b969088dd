// The options of the KEK: its URI, and how its keys are read and used.
import { z } from "zod";
import { KmsError } from "../errors.js";
import { parseCryptoperiod } from "./cryptoperiod.js";
import { duration, optionalText, requiredText, textList } from "./option.js";
import { kekUri } from "./token-schema.js";

export const keysSection = z.strictObject({
  uri: requiredText({
    ...kekUri,
    range: `${kekUri.range}, here or with --key`,
    why: "The KEK and its token; `object` is the KEK's name, at most 15 characters",
  }),
  active: optionalText({
    range: "a key_id or a CKA_ID in hex",
    read: checkActive,
    why: "Selects one of several keys that have the KEK's name and no activation instant",
  }),
  allowUnprotected: textList({
    range: "a list of key_ids",
    why: "Keys to use even if they are extractable, not sensitive or not private. A label is accepted too, but not for a key that is not private",
  }),
  refreshInterval: duration({
    least: "100ms",
    most: "5m",
    preset: "30s",
    why: "How often the plugin reads the token for new and removed keys; must be shorter than the activation delay of a rotation",
  }),
  cryptoperiod: optionalText({
    range: "1h to 3650d",
    read: parseCryptoperiod,
    why: "How long a KEK may be active, such as 90d; a metric, an alert, `check`, `keys list` and /readyz report when nine tenths have passed. It stops nothing",
  }),
});

function checkActive(text: string): string {
  if (/^[\x21-\x7e]{1,128}$/.test(text)) return text;
  throw new KmsError("CONFIG_INVALID", "is not a key_id; copy one from `keys list`, or give a CKA_ID in hex");
}
