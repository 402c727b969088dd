// How a command reports that it failed, on standard error: a sentence for people, or with `--output json` one line of JSON.
// Programs match the code, which is from the closed union of `errors.ts`, or RESULT_LOST. Knows no command.
import type { KmsError, ErrorCode } from "../errors.js";
import { EXIT_USAGE, exitCodeOf } from "./exit-code.js";
import type { OutputFormat, Terminal } from "./output.js";
import type { UsageProblem } from "./describe-usage.js";
import type { FailureOutput } from "./output-schema/failure.js";

/** What to do after an error, if its message names nothing more specific. */
const NEXT_STEPS = {
  CONFIG_INVALID: "correct the option or setting that the message names, then repeat the command",
  INPUT_INVALID: "correct the input, then repeat the command",
  SOCKET_UNUSABLE: "run 'kms-pkcs11 check' to see what prevents the use of the socket",
  MODULE_UNUSABLE: "run 'kms-pkcs11 check'; compare module-path with the vendor's installation",
  PIN_UNREADABLE: "run 'kms-pkcs11 check' to see which PIN source is read, and as which user",
  STATE_UNUSABLE: "run 'kms-pkcs11 check' to see what prevents the use of the state directory",
  NOT_AUTHENTIC: "compare the key_ids of 'kms-pkcs11 keys list' on every token",
  KEY_UNKNOWN: "run 'kms-pkcs11 keys list' to see the KEKs on the token",
  KEY_MISSING: "run 'kms-pkcs11 keys list' to see which token or node lacks the KEK",
  KEY_AMBIGUOUS: "run 'kms-pkcs11 keys list' to see the keys that match",
  KEY_UNSUITABLE: "run 'kms-pkcs11 keys list' to see the remarks on the KEK",
  MECHANISM_UNSUPPORTED: "run 'kms-pkcs11 check' to see which mechanisms the token offers",
  GENERATION_UNSUPPORTED: "make the KEK with the vendor's tool, with the label that the message names",
  TOKEN_REFUSED: "run 'kms-pkcs11 keys list' to see the state of the token",
  PIN_REFUSED: "correct the PIN at its source before any other attempt: repeated wrong PINs lock tokens",
  NOT_APPROVED: "run 'kms-pkcs11 approvals show' to see which signatures are missing",
  TOKEN_NOT_FOUND: "run 'kms-pkcs11 check' to see which tokens the library shows",
  HSM_UNAVAILABLE: "restore the HSM or its network connection, then repeat the command",
  SESSION_LOST: "repeat the command",
  DEADLINE: "repeat the command when the HSM is less loaded",
  OVERLOADED: "repeat the command when fewer requests are waiting",
  STOPPING: "repeat the command when the plugin has been started again",
  PEER_UNREACHABLE: "check that the peer runs, that its address is correct, and that this user may connect",
  CANCELLED: "repeat the command",
  INTERNAL: "report the defect with this message and 'kms-pkcs11 version'",
} as const satisfies Record<ErrorCode, string>;

/** Returns whether the command line asks for JSON, even if it cannot be parsed. */
export function asksForJson(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  const options = end < 0 ? args : args.slice(0, end);
  return options.some(
    (arg, at) =>
      arg === "-ojson" ||
      arg === "--output=json" ||
      (arg === "json" && ["-o", "--output"].includes(options[at - 1] ?? "")),
  );
}

/** Prints an error of a command and sets the exit code. @param exitCode replaces that of the error's code */
export function reportFailure(
  error: KmsError,
  output: OutputFormat,
  terminal: Terminal,
  exitCode = exitCodeOf(error.code),
): void {
  const { code, message, cause } = error;
  const stack = code === "INTERNAL" && cause instanceof Error ? (cause.stack ?? cause.message) : undefined;
  if (output === "json") {
    // Last, so that a program finds the error in the last line.
    if (stack !== undefined) terminal.err(stack);
    terminal.err(errorLine(code, message, NEXT_STEPS[code]));
  } else {
    terminal.err(`kms-pkcs11: ${message}`);
    if (stack !== undefined) terminal.err(stack);
  }
  process.exitCode = exitCode;
}

/** Prints that a result could not be written to standard output. */
export function reportLostResult(problem: string, output: OutputFormat, terminal: Terminal): void {
  const next = "make standard output writable, then see what the command has changed before you repeat it";
  terminal.err(output === "json" ? errorLine("RESULT_LOST", problem, next) : `kms-pkcs11: ${problem}`);
}

/** Prints what is wrong with a command line, and sets the exit code. */
export function reportUsage(
  { message, hints, help }: UsageProblem,
  output: OutputFormat,
  terminal: Terminal,
): void {
  if (output === "json") {
    const next = [...hints, `run '${help} --help' for its usage`].join("; ").replaceAll("?;", "?");
    terminal.err(errorLine("CONFIG_INVALID", message, next));
  } else {
    terminal.err(`kms-pkcs11: ${message}`);
    for (const hint of hints) terminal.err(hint);
    terminal.err(`(run '${help} --help' for usage)`);
  }
  process.exitCode = EXIT_USAGE;
}

function errorLine(code: FailureOutput["error"]["code"], message: string, next: string): string {
  return JSON.stringify({ error: { code, message, next } } satisfies FailureOutput);
}
