// The options of one token that holds the KEK: its URI, library and PIN source. The preferred token and the failover
// tokens share them. `tokens.ts` combines them.
import { z } from "zod";
import { invalid } from "./invalid.js";
import { parseRole } from "./login-role.js";
import { optionalNameOrNumber, optionalText, requiredText } from "./option.js";
import {
  checkAbsolutePath,
  checkCredentialName,
  checkEnvName,
  checkUnlockSocket,
} from "./pin-source-name.js";
import { parsePkcs11Uri, requireKekUri, type KekUri } from "./pkcs11-uri.js";

/** Longer than NSS or p11-kit need, and short enough for redactParameters. */
const MAX_PARAMETERS_LENGTH = 4096;
const URI_EXAMPLE =
  "pkcs11:token=kms;object=kms-kek?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/path";

export const moduleSection = z
  .strictObject({
    path: optionalText({
      range: "an absolute path",
      read: checkAbsolutePath,
      why: "The vendor's PKCS#11 library; replaces `module-path` in the URI",
    }),
    entry: optionalText({
      range: "the name of a function in the library",
      read: checkFunctionName,
      why: "The function that returns the library's PKCS#11 functions, if it is not `C_GetFunctionList` (NSS in FIPS mode: `FC_GetFunctionList`)",
    }),
    parameters: optionalText({
      range: `1 to ${MAX_PARAMETERS_LENGTH} characters`,
      read: checkParameters,
      secret: true,
      why: "A string for C_Initialize, for libraries that need one (NSS: `configdir=... flags=...`)",
    }),
  })
  .prefault({});

export const pinSection = z
  .strictObject({
    file: optionalText({
      range: "an absolute path",
      read: checkAbsolutePath,
      secret: true,
      why: "A file that holds the token's user PIN; mode 0600",
    }),
    env: optionalText({
      range: "the name of an environment variable",
      read: checkEnvName,
      secret: true,
      why: "An environment variable that holds the PIN; token hosts do not inherit it",
    }),
    credential: optionalText({
      range: "the name of a systemd credential",
      read: checkCredentialName,
      secret: true,
      why: "A systemd credential that holds the PIN; if no PIN source is given and `kms-pkcs11-pin` exists, it is used",
    }),
    unlock: optionalText({
      range: "an absolute path",
      read: checkUnlockSocket,
      secret: true,
      why: "A socket on which `kms-pkcs11 unlock` delivers the PIN after each start; the PIN is kept in memory only",
    }),
    custody: optionalText({
      range: "an absolute path",
      read: checkAbsolutePath,
      why: "The sealed PIN of `kms-pkcs11 custody split`; custodians open it together with `unlock --share` on the socket `unlock`",
    }),
  })
  .prefault({});

const ROLE = {
  range: "user, crypto-user, or a number such as 0x80000001",
  read: parseRole,
};

export const loginSection = z
  .strictObject({
    role: optionalNameOrNumber({
      ...ROLE,
      why: "Role with which the plugin logs in; `user` if not given, `crypto-user` is a Luna's Crypto User",
    }),
  })
  .prefault({});

export const adminSection = z
  .strictObject({
    role: optionalNameOrNumber({
      ...ROLE,
      why: "Role with which commands that make, relabel or destroy a KEK log in; `user` if not given. With any setting of `admin` these commands use no `pin`",
    }),
    file: optionalText({
      range: "an absolute path",
      read: checkAbsolutePath,
      secret: true,
      why: "A file that holds the PIN of the administrator; keep it off the nodes. Without a source the commands prompt, or read --pin-stdin",
    }),
    env: optionalText({
      range: "the name of an environment variable",
      read: checkEnvName,
      secret: true,
      why: "An environment variable that holds the PIN of the administrator",
    }),
  })
  .prefault({});

/** The common part of the URI options; each adds its purpose. */
export const kekUri = {
  range: `a PKCS#11 URI (RFC 7512) such as ${URI_EXAMPLE}`,
  read: (text: string): KekUri => requireKekUri(parsePkcs11Uri(text)),
  secret: true,
};

export const failoverSection = z
  .array(
    z.strictObject({
      uri: requiredText({
        ...kekUri,
        why: "A clone of the KEK on another token, in order of preference; `object` as in `keys.uri`",
      }),
      module: moduleSection,
      pin: pinSection,
      login: loginSection,
      admin: adminSection,
    }),
  )
  .max(8)
  .prefault([]);

function checkFunctionName(text: string): string {
  if (/^[A-Za-z_][A-Za-z0-9_]{0,99}$/.test(text)) return text;
  throw invalid("is not the name of a C function; give one such as FC_GetFunctionList");
}

function checkParameters(text: string): string {
  if (text !== "" && text.length <= MAX_PARAMETERS_LENGTH && !text.includes("\0")) return text;
  throw invalid(
    `cannot be passed to the library; give 1 to ${MAX_PARAMETERS_LENGTH} characters without zero bytes`,
  );
}
