// The performer of each row of the mechanism table.
import type { MechanismName } from "../../hsm/mechanisms.js";
import { aesCbcHmac } from "./aes-cbc-hmac.js";
import { aesGcm } from "./aes-gcm.js";
import { aesKwp } from "./aes-kwp.js";
import { hmacKdf } from "./hmac-kdf.js";
import type { Performer } from "./performer.js";
import { rsaOaep } from "./rsa-oaep.js";

/** The performer of each mechanism. */
export const PERFORMERS: Readonly<Record<MechanismName, Performer>> = {
  "aes-gcm": aesGcm("aes-gcm"),
  "aes-gcm-iv-written": aesGcm("aes-gcm-iv-written"),
  "aes-gcm-iv-appended": aesGcm("aes-gcm-iv-appended"),
  "aes-gcm-iv-prepended": aesGcm("aes-gcm-iv-prepended"),
  "hmac-kdf": hmacKdf,
  "aes-kwp": aesKwp,
  "aes-cbc-hmac": aesCbcHmac,
  "rsa-oaep": rsaOaep("rsa-oaep"),
  "rsa-oaep-sha1": rsaOaep("rsa-oaep-sha1"),
};
