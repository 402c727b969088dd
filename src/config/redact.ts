// Module parameters for the log. Libraries that take a string in C_Initialize may find passwords in it (NSS:
// `passwordFile=`, p11-kit and vendors: `pin=...`), so values of names that sound like a secret are replaced.

const SECRET_NAME = "[\\w.-]*(?:pass|pwd|pin|secret|token|auth|cred|key)[\\w.-]*";
/** Quoted in any of the ways of NSS's module specification, also unterminated; else up to the next blank. */
const VALUE = `"(?:\\\\.|[^"\\\\])*(?:"|$)|'(?:\\\\.|[^'\\\\])*(?:'|$)|\\[[^\\]]*(?:\\]|$)|\\{[^}]*(?:\\}|$)|\\([^)]*(?:\\)|$)|<[^>]*(?:>|$)|(?:\\\\.|[^\\s\\\\])*`;
const SECRET = new RegExp(`(${SECRET_NAME})(\\s*[=:]\\s*)(?:${VALUE})`, "gisu");

/** Returns the parameters with the values of what sounds like a secret replaced by "***". */
export function redactParameters(parameters: string): string {
  return parameters.replace(SECRET, "$1$2***");
}
