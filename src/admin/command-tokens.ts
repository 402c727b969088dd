// Opens the tokens for the length of one command: one token host for each, started, used and stopped. A wrong PIN costs
// one attempt here too, and is recorded where the plugin records it.
import { formatPkcs11Uri } from "../config/pkcs11-uri.js";
import { describePinSource } from "../config/pin-source.js";
import type { Settings, TokenSettings } from "../config/settings.js";
import { requireTrustedPaths } from "../config/trusted-paths.js";
import { KmsError } from "../errors.js";
import type { OperatorPin } from "../hsm/login/operator-pin.js";
import type { TokenHsm } from "../hsm/token-hsm.js";
import type { KekRecord } from "../hsm/port.js";
import type { Log } from "../log.js";
import { openToken } from "../compose/tokens.js";
import { actingEnvironment, actingUser } from "./acting-user.js";
import type { Operator } from "./operator.js";

export const SILENT: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};
const UNOBSERVED = { hsmCallDone: () => undefined, hostEnded: () => undefined };
const STOP_MS = 1_000;
/** Number of attempts to read a token whose failure may pass in a moment. */
const MAX_ATTEMPTS = 3;
/** Time in ms after which a failure counts as lasting. */
const QUICK_MS = 2_000;

/** A configured token and its content when the command began. */
export interface Token {
  /** Its URI, without library and PIN source if that is still unique. */
  readonly name: string;
  readonly hsm: TokenHsm;
  /** The KEKs that it holds; undefined if it could not be read. */
  readonly records: readonly KekRecord[] | undefined;
  /** Why it could not be read; undefined if it could. */
  readonly failure: KmsError | undefined;
  /** Time in ms to load the library, log in and read the token: an estimate for the next time. */
  readonly openMs: number;
}

type Reading = Pick<Token, "records" | "failure">;

/** Opens the preferred token only. @throws KmsError, such as why the token is not available */
export async function withToken<T>(
  settings: Settings,
  operator: Operator,
  use: (hsm: TokenHsm) => Promise<T>,
): Promise<T> {
  const hsm = await openAndStart(settings, operator, settings.tokens[0]);
  try {
    return await use(hsm);
  } finally {
    await hsm.stop(STOP_MS);
  }
}

/** Opens all tokens, the preferred one first; a token that cannot be read is included with its error. */
export async function withTokens<T>(
  settings: Settings,
  operator: Operator,
  use: (tokens: readonly Token[]) => Promise<T>,
): Promise<T> {
  requireTrustedPaths(settings, { isCommand: true });
  const names = tokenNames(settings.tokens);
  const tokens: Token[] = [];
  const refusedPins = new Map<string, KmsError>();
  try {
    for (const [index, token] of settings.tokens.entries()) {
      const source = describePinSource(token.pin);
      const pin = await operator.pins.supplied(settings, token);
      const openedAt = performance.now();
      const { hsm, ...reading } = await read(settings, operator, token, {
        pin,
        refused: refusedPins.get(source),
      });
      // Two URIs may lead to one token: a PIN that it has refused is not tried on it again.
      if (reading.failure?.code === "PIN_REFUSED") refusedPins.set(source, reading.failure);
      tokens.push({ name: names[index] ?? "", hsm, ...reading, openMs: performance.now() - openedAt });
    }
    return await use(tokens);
  } finally {
    await Promise.all(tokens.map(({ hsm }) => hsm.stop(STOP_MS)));
  }
}

/**
 * Reads the tokens again that were readable when the command began; never throws.
 * @param reloaded whether to reload the libraries first: some never show later changes
 */
export function readAgain(tokens: readonly Token[], reloaded: boolean): Promise<Token[]> {
  return Promise.all(
    tokens.map(async (token) => {
      if (token.failure !== undefined) return token;
      const { hsm } = token;
      return { ...token, ...(await reading(() => (reloaded ? hsm.listKeksReloaded() : hsm.listKeks()))) };
    }),
  );
}

/**
 * Requires that every token could be read.
 * @throws KmsError of the first that could not, with its name if there are several
 */
export function requireAll(tokens: readonly Token[], consequence: string): void {
  const away = tokens.find(({ failure }) => failure !== undefined);
  if (away?.failure === undefined) return;
  if (tokens.length === 1) throw away.failure;
  const { code, message } = away.failure;
  throw new KmsError(code, `${away.name}: ${message}; ${consequence}`, away.failure);
}

function open(
  settings: Settings,
  operator: Operator,
  token: TokenSettings,
  supplied: OperatorPin | undefined,
): TokenHsm {
  const acting = actingUser(settings, operator);
  return openToken({
    settings,
    token,
    hosts: 1,
    observer: UNOBSERVED,
    log: {
      ...SILENT,
      info: (fields) => {
        notifyOfReading(operator, { ...fields });
      },
    },
    env: actingEnvironment(acting, process.env),
    user: acting,
    suppliedPin: supplied,
  });
}

/** Shows the progress of a reading that takes long. */
function notifyOfReading(operator: Operator, fields: Readonly<Record<string, unknown>>): void {
  const { seen, objects } = fields;
  if (typeof seen !== "number" || typeof objects !== "number") return;
  operator.notify(
    `reading the token: ${seen.toLocaleString("en")} of ${objects.toLocaleString("en")} keys so far`,
  );
}

/** Starts a token's host, and prompts for the PIN if the token requires one and no source is configured. */
async function openAndStart(settings: Settings, operator: Operator, token: TokenSettings): Promise<TokenHsm> {
  const { pins } = operator;
  const hsm = open(settings, operator, token, await pins.supplied(settings, token));
  hsm.start();
  if (!pins.canPrompt(token)) return hsm;
  const { failure } = await reading(() => hsm.listKeks());
  if (failure?.code !== "PIN_UNREADABLE") return hsm;
  await hsm.stop(STOP_MS);
  const again = open(settings, operator, token, await pins.prompt(token));
  again.start();
  return again;
}

interface Access {
  readonly pin: OperatorPin | undefined;
  readonly refused: KmsError | undefined;
}

async function read(
  settings: Settings,
  operator: Operator,
  token: TokenSettings,
  { pin, refused }: Access,
): Promise<Reading & Pick<Token, "hsm">> {
  if (refused !== undefined) {
    return { hsm: open(settings, operator, token, pin), records: undefined, failure: refused };
  }
  for (let attempt = 1; ; attempt++) {
    const startedAt = performance.now();
    const hsm = await openAndStart(settings, operator, token);
    const result = await reading(() => hsm.listKeks());
    const isQuick = performance.now() - startedAt < QUICK_MS;
    if (!isQuick || !mayPass(result.failure) || attempt === MAX_ATTEMPTS) return { hsm, ...result };
    await hsm.stop(STOP_MS);
  }
}

/**
 * Returns whether a failure may pass in a moment: SoftHSM 2.6.1 shows no token, or fails, if another process, such as the
 * plugin, writes the token while the library is loaded.
 */
function mayPass(failure: KmsError | undefined): boolean {
  return failure?.code === "TOKEN_NOT_FOUND" || failure?.code === "HSM_UNAVAILABLE";
}

async function reading(list: () => Promise<readonly KekRecord[]>): Promise<Reading> {
  try {
    return { records: await list(), failure: undefined };
  } catch (error) {
    return { records: undefined, failure: KmsError.from(error) };
  }
}

function tokenNames(tokens: readonly TokenSettings[]): string[] {
  const short = tokens.map(({ uri }) => formatPkcs11Uri(uri).replace(/\?.*$/, ""));
  return new Set(short).size === short.length ? short : tokens.map(({ uri }) => formatPkcs11Uri(uri));
}
