// Module parameters for the log. Libraries that take a string in C_Initialize may find passwords in it (NSS's
// module specification nests and quotes in many ways), so values of names that sound like a secret are
// replaced: rather too many than one too few.

const ASSIGNMENT = /(?<![\w.-])([\w.-]+)\s*[=:]\s*/gu;
const SECRET_NAME = /pass|pwd|pin|secret|token|auth|cred|key/i;
/** Quoted in any of NSS's ways, also without the closing mark; else up to the next blank. */
const VALUE =
  /"(?:\\[^]?|[^"\\])*"?|'(?:\\[^]?|[^'\\])*'?|\[[^\]]*\]?|\{[^}]*\}?|\([^)]*\)?|<[^>]*>?|(?:\\[^]?|[^\s\\])*/uy;

/** Returns the parameters with the values of what sounds like a secret replaced by "***". */
export function redactParameters(parameters: string): string {
  let shown = "";
  let from = 0;
  for (const { 0: assignment, 1: name = "", index } of parameters.matchAll(ASSIGNMENT)) {
    const at = index + assignment.length;
    if (index < from || !SECRET_NAME.test(name)) continue;
    VALUE.lastIndex = at;
    const value = VALUE.exec(parameters)?.[0] ?? "";
    shown += `${parameters.slice(from, at)}***`;
    from = at + value.length;
  }
  return shown + parameters.slice(from);
}
