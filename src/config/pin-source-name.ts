// The grammar of a PIN source in a pin-source attribute (RFC 7512 section 2.4) or an option: "file:/path", a plain
// path, "env:NAME", "credential:NAME" or "unlock:/path". Reads no PIN. An operator may have written the PIN in place of
// its source, so no message repeats the text.
import { fileURLToPath } from "node:url";
import { invalid } from "./invalid.js";
import { parseSocketAddress } from "./socket-address.js";

export type PinSourceName =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "env"; readonly name: string }
  | { readonly kind: "credential"; readonly name: string }
  | { readonly kind: "unlock"; readonly path: string };

const FORMS = "give file:/path, env:NAME, credential:NAME or unlock:/path";
const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
/** systemd uses a credential's name as a file name (systemd.exec, LoadCredential=). */
const CREDENTIAL_NAME = /^(?!\.{1,2}$)[\x21-\x2e\x30-\x39\x3b-\x7e]{1,255}$/;

/** Returns the PIN source that the text names. @throws KmsError CONFIG_INVALID; the message never repeats the text */
export function parsePinSourceName(text: string): PinSourceName {
  if (text.startsWith("|")) throw invalid(`a pin-source that runs a program is refused; ${FORMS}`);
  const colon = text.indexOf(":");
  const scheme = text.startsWith("/") || colon < 0 ? "" : text.slice(0, colon).toLowerCase();
  switch (scheme) {
    case "":
      return { kind: "file", path: checkAbsolutePath(text) };
    case "file":
      return { kind: "file", path: checkAbsolutePath(pathOfUrl(text)) };
    case "env":
      return { kind: "env", name: checkEnvName(text.slice(colon + 1)) };
    case "credential":
      return { kind: "credential", name: checkCredentialName(text.slice(colon + 1)) };
    case "unlock":
      return { kind: "unlock", path: checkUnlockSocket(text.slice(colon + 1)) };
    default:
      throw invalid(`this kind of pin-source is not known; ${FORMS}`);
  }
}

/** Returns the name itself. @throws KmsError CONFIG_INVALID unless it can name an environment variable */
export function checkEnvName(name: string): string {
  if (ENV_NAME.test(name)) return name;
  throw invalid("is not the name of an environment variable; give letters, digits and _, such as KMS_PIN");
}

/** Returns the name itself. @throws KmsError CONFIG_INVALID unless it can name a systemd credential */
export function checkCredentialName(name: string): string {
  if (CREDENTIAL_NAME.test(name)) return name;
  throw invalid("is not the name of a systemd credential; give a file name, such as kms-pkcs11-pin");
}

/** Returns the path itself. @throws KmsError CONFIG_INVALID unless it is absolute and names a file */
export function checkAbsolutePath(path: string): string {
  if (path.startsWith("/") && path !== "/" && !path.includes("\0")) return path;
  throw invalid("is not an absolute path; begin it with /");
}

/** Returns the socket's path. @throws KmsError CONFIG_INVALID for an abstract socket, which has no access control */
export function checkUnlockSocket(path: string): string {
  const { abstract, path: checked } = parseSocketAddress(path);
  if (!abstract) return checked;
  throw invalid("is a socket without access control; give a path such as /run/kms-pkcs11/unlock.sock");
}

function pathOfUrl(text: string): string {
  if (!/^file:\//i.test(text)) throw invalid("a file: pin-source needs an absolute path; give file:/path");
  try {
    return fileURLToPath(new URL(text));
  } catch {
    throw invalid("is not the file: URL of a local file; give file:/path");
  }
}
