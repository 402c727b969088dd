// One change on every token that needs it: what was done on which, whatever fails on one. A repeat of the command
// finds the change made where it was, and makes it where it was not.
import { KmsError } from "../errors.js";
import type { KekRecord } from "../hsm/port.js";
import { isSameKek } from "./keyring-view.js";
import type { Token } from "./command-tokens.js";

export interface TokenChange {
  readonly token: string;
  /** `not needed`: nothing had to change. `unknown`: a call failed, and the token cannot be read since. */
  readonly outcome: "done" | "not needed" | "failed" | "unknown";
  readonly error: string | null;
}

export interface Changes {
  readonly tokens: readonly TokenChange[];
  /** Of the first token on which it failed; undefined when it failed on none. */
  readonly failure: KmsError | undefined;
}

/** @param change returns whether there was anything to do; gets the token's own record as it is now */
export async function changeTokens(
  tokens: readonly Token[],
  kek: KekRecord,
  change: (token: Token, record: KekRecord) => Promise<boolean>,
): Promise<Changes> {
  const changes: TokenChange[] = [];
  let failure: KmsError | undefined;
  for (const token of tokens) {
    try {
      if (token.failure !== undefined) throw token.failure;
      // Read again: tokens of one group may show the change of the one before.
      const record = (await token.hsm.listKeks()).find((one) => isSameKek(one, kek));
      const done = record !== undefined && (await change(token, record));
      changes.push({ token: token.name, outcome: done ? "done" : "not needed", error: null });
    } catch (thrown) {
      const error = KmsError.from(thrown);
      failure ??= error;
      changes.push({ token: token.name, outcome: "failed", error: error.message });
    }
  }
  return { tokens: changes, failure };
}

/** @throws KmsError that says on which tokens it failed, and that a repeat finishes the rest */
export function requireChanged({ tokens, failure }: Changes, what: string): void {
  if (failure === undefined) return;
  if (tokens.length === 1) throw failure;
  const failed = tokens.filter(({ error }) => error !== null);
  const list = failed.map(({ token, error }) => `${token}: ${error ?? ""}`).join("; ");
  throw new KmsError(
    failure.code,
    `${what} on some tokens only; repeat the command to finish the rest (${list})`,
    failure,
  );
}

/** For the audit log. */
export function changeEvent({ tokens, failure }: Changes): {
  readonly outcome: string;
  readonly details: { readonly tokens: string };
} {
  const text = tokens.map(({ token, outcome }) => `${outcome} on ${token}`).join(", ");
  return { outcome: failure?.code ?? "ok", details: { tokens: text } };
}

export function changeRows({ tokens }: Changes): string[][] {
  return tokens.map(({ token, outcome, error }) => [outcome, token, error ?? ""]);
}
