// Module parameters for the log. The string that some libraries take in C_Initialize may contain passwords, and NSS's
// module specification nests and quotes in many ways. Replaces every value whose name suggests a secret: redacting too
// much is better than redacting too little.

const ASSIGNMENT = /(?<![\w.-])([\w.-]+)\s*[=:]\s*/gu;
const SECRET_NAME = /pass|pwd|pin|secret|token|auth|cred|key/i;
/** Quoted in any of NSS's ways, with or without the closing mark; otherwise up to the next white space. */
const VALUE =
  /"(?:\\[^]?|[^"\\])*"?|'(?:\\[^]?|[^'\\])*'?|\[[^\]]*\]?|\{[^}]*\}?|\([^)]*\)?|<[^>]*>?|(?:\\[^]?|[^\s\\])*/uy;

/** Returns the parameters with "***" in place of every value whose name suggests a secret. */
export function redactParameters(parameters: string): string {
  let redacted = "";
  let from = 0;
  for (const { 0: assignment, 1: name = "", index } of parameters.matchAll(ASSIGNMENT)) {
    const at = index + assignment.length;
    if (index < from || !SECRET_NAME.test(name)) continue;
    VALUE.lastIndex = at;
    const value = VALUE.exec(parameters)?.[0] ?? "";
    redacted += `${parameters.slice(from, at)}***`;
    from = at + value.length;
  }
  return redacted + parameters.slice(from);
}
