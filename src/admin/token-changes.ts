// Makes one change on every token that needs it and reports the result for each, even if one fails. A repeated command
// makes the change only on the tokens that still need it.
import { KmsError } from "../errors.js";
import type { KekRecord } from "../hsm/port.js";
import { isSameKek } from "../hsm/key-id.js";
import type { Token } from "./command-tokens.js";

export interface TokenChange {
  readonly token: string;
  /** `not needed`: nothing to change. `unknown`: a call failed, and the token could not be read afterwards. */
  readonly outcome: "done" | "not needed" | "failed" | "unknown";
  readonly error: string | null;
}

export interface Changes {
  readonly tokens: readonly TokenChange[];
  /** The error of the first token on which it failed; undefined if it failed on none. */
  readonly failure: KmsError | undefined;
}

/**
 * Changes a KEK on every token, one after the other. Never throws.
 * @param change returns whether a change was needed; receives the token's current records of the KEK (several if it was
 * copied) and all its records
 */
export async function changeTokens(
  tokens: readonly Token[],
  kek: KekRecord,
  change: (token: Token, records: readonly KekRecord[], all: readonly KekRecord[]) => Promise<boolean>,
): Promise<Changes> {
  const changes: TokenChange[] = [];
  let failure: KmsError | undefined;
  for (const token of tokens) {
    try {
      if (token.failure !== undefined) throw token.failure;
      // Reads again: tokens of one high-availability group may already show the change made on the previous token.
      const all = await token.hsm.listKeks();
      const records = all.filter((one) => isSameKek(one, kek));
      const done = records.length > 0 && (await change(token, records, all));
      changes.push({ token: token.name, outcome: done ? "done" : "not needed", error: null });
    } catch (thrown) {
      const error = KmsError.from(thrown);
      failure ??= error;
      changes.push({ token: token.name, outcome: "failed", error: error.message });
    }
  }
  return { tokens: changes, failure };
}

/** Requires that no token failed. @throws KmsError that names the tokens on which it failed */
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

/** Returns outcome and details for the audit log. */
export function changeEvent({ tokens, failure }: Changes): {
  readonly outcome: string;
  readonly details: { readonly tokens: string };
} {
  const text = tokens.map(({ token, outcome }) => `${outcome} on ${token}`).join(", ");
  return { outcome: failure?.code ?? "ok", details: { tokens: text } };
}

/** Returns table rows: outcome, token, error. */
export function changeRows({ tokens }: Changes): string[][] {
  return tokens.map(({ token, outcome, error }) => [outcome, token, error ?? ""]);
}
