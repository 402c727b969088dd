// Constructs the HSM layer from the settings: one token or several, each with its PIN source, including the sockets on
// which an operator submits a PIN.
import {
  correctPin,
  describePinSource,
  environmentWithoutPin,
  isPinPresent,
  type PinSource,
} from "../config/pin-source.js";
import { formatPkcs11Uri, tokenSelector } from "../config/pkcs11-uri.js";
import { loginDirectory } from "../config/login-directory.js";
import type { Settings, TokenSettings } from "../config/settings.js";
import { pinSourcesOf } from "../config/tokens.js";
import { TOKEN_HOST_ENTRY } from "../early-host.js";
import type { HsmObserver } from "../hsm/hosts/hsm-observer.js";
import { FailoverHsm } from "../hsm/failover/failover.js";
import { KekMemoryFile } from "../hsm/failover/kek-memory-file.js";
import { NO_KEK_MEMORY } from "../hsm/failover/kek-memory.js";
import { OperatorPin, verdictOn, type Outdated } from "../hsm/login/operator-pin.js";
import type { KekName } from "../hsm/wire-calls.js";
import type { HostProcessOptions } from "../hsm/hosts/spawn-host.js";
import { LoginGate, type Pin } from "../hsm/login/login-gate.js";
import { loginStores } from "../hsm/login/login-files.js";
import type { Hsm } from "../hsm/port.js";
import type { HostUser } from "../hsm/wire-user.js";
import { TokenHsm } from "../hsm/token-hsm.js";
import type { Log } from "../log.js";
import { ConfiguredPin } from "./configured-pin.js";
import type { UnlockAnswer } from "../server/unlock.js";

/** How long `unlock` waits for the token to accept or refuse the PIN, in ms. */
const UNLOCK_MS = 15_000;
const ALREADY =
  "the token is logged in already and this PIN was not tried; if the token's PIN has changed, restart the plugin first";

/** What opening a token needs. */
export interface TokenAccess {
  readonly settings: Settings;
  readonly token: TokenSettings;
  readonly hosts: number;
  readonly observer: HsmObserver;
  readonly log: Log;
  readonly env: NodeJS.ProcessEnv;
  /** The user whom token hosts act as; undefined for that of this process. */
  readonly user?: HostUser | undefined;
  /** Replaces the PIN source of the settings. */
  readonly suppliedPin?: Pin | undefined;
}

/** How to start a token host of a token, and its login gate. */
export interface HostAccess {
  readonly host: HostProcessOptions;
  readonly gate: LoginGate;
}

/** Returns how to start token hosts of a token and to log them in. */
export function hostAccess({
  settings,
  token,
  log,
  env,
  user,
  suppliedPin,
}: Omit<TokenAccess, "hosts" | "observer">): HostAccess {
  const { uri, modulePath, moduleEntry, moduleParameters, pin, userType } = token;
  const { startTimeoutMs, sessions, allowFinalTry } = settings.hsm;
  // A login waits for those of other processes for at most half of its start timeout.
  const stores = loginStores(loginDirectory(settings), startTimeoutMs / 2);
  const sources = settings.tokens.flatMap(pinSourcesOf);
  return {
    host: {
      entry: TOKEN_HOST_ENTRY,
      env: environmentWithoutPin(env, sources),
      user,
      open: {
        modulePath,
        ...(moduleEntry !== undefined && { moduleEntry }),
        ...(moduleParameters !== undefined && { moduleParameters }),
        token: tokenSelector(uri),
        ...kekNameOf(settings, token),
        userType,
      },
      sessions,
    },
    gate: new LoginGate({ pin: suppliedPin ?? new ConfiguredPin(pin, env), stores, allowFinalTry, log }),
  };
}

/** Returns which keys on a token are the KEK of the settings. */
export function kekNameOf({ objectName }: Settings, { uri }: TokenSettings): KekName {
  return { objectName, ...(uri.id !== undefined && { ckaId: Buffer.from(uri.id).toString("hex") }) };
}

/** Constructs the HSM layer of one token, without starting it. */
export function openToken(access: TokenAccess): TokenHsm {
  const { settings, hosts, observer, log } = access;
  const { requestTimeoutMs, startTimeoutMs, queue } = settings.hsm;
  return new TokenHsm({
    ...hostAccess(access),
    hosts,
    startTimeoutMs,
    requestTimeoutMs,
    queue,
    observer,
    log,
  });
}

type UnlockSource = PinSource & { readonly kind: "unlock" };

/** A token whose PIN an operator submits on a socket. */
export interface LockedToken {
  readonly settings: TokenSettings;
  readonly source: UnlockSource;
  readonly held: OperatorPin;
  readonly hsm: TokenHsm;
  /** Number of token hosts while all are running. */
  readonly hosts: number;
}

/** A configured token, not started yet. */
export interface OpenedToken {
  readonly hsm: TokenHsm;
  /** Undefined for a PIN that an operator submits. */
  readonly pin: ConfiguredPin | undefined;
  /** Undefined for any other PIN. */
  readonly locked: LockedToken | undefined;
}

/**
 * Constructs the HSM layer of one token with its PIN, without starting it.
 * @param pinEnv the environment that may hold the PIN
 */
export function openConfigured(
  access: Omit<TokenAccess, "hosts" | "suppliedPin">,
  pinEnv: NodeJS.ProcessEnv,
): OpenedToken {
  const { settings, token } = access;
  const { pin: source } = token;
  const { hosts } = settings.hsm;
  if (source.kind === "unlock") {
    const held = holdPin(source);
    const hsm = openToken({ ...access, hosts, suppliedPin: held });
    return { hsm, pin: undefined, locked: { settings: token, source, held, hsm, hosts } };
  }
  const pin = new ConfiguredPin(source, pinEnv);
  return { hsm: openToken({ ...access, hosts, suppliedPin: pin }), pin, locked: undefined };
}

/** Combines all tokens of the settings into one HSM: the only token, or a failover set. */
export function combine(
  members: readonly { readonly name: string; readonly hsm: Hsm }[],
  { hsm: { requestTimeoutMs }, stateDir }: Settings,
  log: Log,
): Hsm {
  const [only] = members;
  if (only !== undefined && members.length === 1) return only.hsm;
  const memory = stateDir === undefined ? NO_KEK_MEMORY : new KekMemoryFile(stateDir);
  return new FailoverHsm({ members, requestTimeoutMs, memory, log });
}

/** The configured tokens, not started yet. */
export interface OpenedTokens {
  readonly tokens: readonly TokenHsm[];
  readonly locked: readonly LockedToken[];
  /** In the order of `tokens`; undefined for a PIN that an operator submits. */
  readonly pins: readonly (ConfiguredPin | undefined)[];
  /** Combines all tokens. */
  readonly port: Hsm;
}

/** Constructs the HSM layer of all configured tokens, without starting it. */
export function openTokens(
  settings: Settings,
  observer: HsmObserver,
  log: Log,
  env: NodeJS.ProcessEnv,
): OpenedTokens {
  const members = settings.tokens.map((token) => ({
    name: formatPkcs11Uri(token.uri),
    ...openConfigured({ settings, token, observer, log, env }, env),
  }));
  return {
    tokens: members.map(({ hsm }) => hsm),
    pins: members.map(({ pin }) => pin),
    locked: members.flatMap(({ locked }) => locked ?? []),
    port: combine(members, settings, log),
  };
}

/** Returns a warning for each administrator's PIN on this machine; a plugin that serves needs none. */
export function adminPinWarnings({ tokens }: Settings, env: NodeJS.ProcessEnv): string[] {
  const sources = tokens.flatMap(({ admin }) => (admin === undefined ? [] : [admin.pin]));
  return sources
    .filter((source) => isPinPresent(source, env))
    .map(
      (source) =>
        `the administrator's PIN is on this node (${describePinSource(source)}): whoever controls the node can destroy KEKs; remove it, and run commands that change KEKs on another machine`,
    );
}

/** Returns the options of `unlock` for this token. */
export function unlockOptions({ path, sealed }: UnlockSource): string {
  return `${sealed === undefined ? "" : "--share "}--socket ${path}`;
}

function holdPin(source: UnlockSource): OperatorPin {
  const missing = `no PIN is held; run kms-pkcs11 unlock ${unlockOptions(source)}`;
  return new OperatorPin({ description: describePinSource(source), missing, correction: correctPin(source) });
}

/** Tries the PIN if a token host has to log in; does nothing while all of them are logged in. */
export async function tryPin(
  pin: Buffer,
  { held, hsm, hosts }: LockedToken,
  outdated?: Outdated,
): Promise<UnlockAnswer> {
  const idle = (): boolean => hsm.readyHosts === hosts;
  const verdict = await verdictOn(held.offer(pin, outdated), {
    state: () => hsm.state(),
    idle,
    limitMs: UNLOCK_MS,
  });
  const { up } = hsm.state();
  switch (verdict.is) {
    case "accepted":
      return { unlocked: true, message: "the token is logged in" };
    case "untried":
      return { unlocked: true, message: ALREADY };
    case "refused": {
      const kept =
        up && verdict.reason.code === "PIN_REFUSED"
          ? "; the token stays logged in with the PIN that is in use"
          : "";
      return { unlocked: false, message: `${verdict.reason.message}${kept}` };
    }
    case "waiting": {
      const why = verdict.reason?.message ?? "the token has not answered yet";
      return { unlocked: false, message: `${why}; this PIN is tried when it does` };
    }
  }
}
