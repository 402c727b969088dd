// Constructs the HSM layer from the settings: one token or several, each with its PIN's source, the socket on which a
// PIN is handed over included.
import { fileURLToPath } from "node:url";
import {
  checkPin,
  describePinSource,
  environmentWithoutPin,
  MAX_PIN_BYTES,
  pinSourceStamp,
  readPin,
  stampShowsChange,
  type PinSource,
} from "./config/pin-source.js";
import { formatPkcs11Uri, tokenSelector } from "./config/pkcs11-uri.js";
import type { Settings, TokenSettings } from "./config/settings.js";
import type { HsmObserver } from "./hsm/dispatcher.js";
import { FailoverHsm } from "./hsm/failover.js";
import { HeldPin, stateAfter } from "./hsm/held-pin.js";
import { PinGate, type Pin } from "./hsm/pin-gate.js";
import { pinMemories } from "./hsm/pin-memory.js";
import type { Hsm } from "./hsm/port.js";
import { TokenHsm } from "./hsm/token-hsm.js";
import type { Log } from "./log.js";
import { startUnlock, type RunningUnlock } from "./server/unlock.js";

const TOKEN_HOST_ENTRY = fileURLToPath(new URL("./token-host/main.js", import.meta.url));
/** How long an operator who hands over a PIN waits for the token's word. */
const UNLOCK_MS = 15_000;
const ALREADY =
  "the token is logged in already and this PIN was not tried; where the token's PIN has changed, restart the plugin first";

export interface TokenAccess {
  readonly settings: Settings;
  readonly token: TokenSettings;
  readonly hosts: number;
  readonly observer: HsmObserver;
  readonly log: Log;
  readonly env: NodeJS.ProcessEnv;
  /** A PIN that is handed over, in place of the source that the settings name. */
  readonly heldPin?: HeldPin | undefined;
}

/** One token's HSM layer, not yet started. */
export function openToken({ settings, token, hosts, observer, log, env, heldPin }: TokenAccess): TokenHsm {
  const { uri, modulePath, moduleParameters, pin } = token;
  const { requestTimeoutMs, startTimeoutMs, sessions, queue, allowFinalTry } = settings.hsm;
  const memories = pinMemories(settings.stateDir);
  const sources = settings.tokens.map((one) => one.pin);
  return new TokenHsm({
    host: {
      entry: TOKEN_HOST_ENTRY,
      env: environmentWithoutPin(env, sources),
      open: {
        modulePath,
        ...(moduleParameters !== undefined && { moduleParameters }),
        token: tokenSelector(uri),
        objectName: settings.objectName,
        ...(uri.id !== undefined && { ckaId: Buffer.from(uri.id).toString("hex") }),
      },
      sessions,
    },
    hosts,
    gate: new PinGate({ pin: heldPin ?? pinFrom(pin, env), memories, allowFinalTry, log }),
    startTimeoutMs,
    requestTimeoutMs,
    queue,
    observer,
    log,
  });
}

function pinFrom(source: PinSource, env: NodeJS.ProcessEnv): Pin {
  return {
    read: () => readPin(source, env),
    stamp: () => pinSourceStamp(source),
    showsChange: stampShowsChange(source),
    description: describePinSource(source),
  };
}

/** A token whose PIN an operator hands over on a socket. */
export interface LockedToken {
  readonly source: PinSource & { readonly kind: "unlock" };
  readonly held: HeldPin;
  readonly hsm: TokenHsm;
  /** Token hosts when all is well. */
  readonly hosts: number;
}

export interface OpenedTokens {
  readonly tokens: readonly TokenHsm[];
  readonly locked: readonly LockedToken[];
  /** All of them as one. */
  readonly port: Hsm;
}

export function openTokens(
  settings: Settings,
  observer: HsmObserver,
  log: Log,
  env: NodeJS.ProcessEnv,
): OpenedTokens {
  const { hosts, requestTimeoutMs } = settings.hsm;
  const locked: LockedToken[] = [];
  const members = settings.tokens.map((token) => {
    const { uri, pin: source } = token;
    const heldPin = source.kind === "unlock" ? holdPin(source.path) : undefined;
    const hsm = openToken({ settings, token, hosts, observer, log, env, heldPin });
    if (source.kind === "unlock" && heldPin !== undefined) locked.push({ source, held: heldPin, hsm, hosts });
    return { name: formatPkcs11Uri(uri), hsm };
  });
  const [only] = members;
  const port =
    only !== undefined && members.length === 1
      ? only.hsm
      : new FailoverHsm({ members, requestTimeoutMs, log });
  return { tokens: members.map(({ hsm }) => hsm), locked, port };
}

function holdPin(path: string): HeldPin {
  const missing = `the PIN has not been handed over since the start; run kms-pkcs11 unlock --socket ${path}`;
  return new HeldPin(`socket ${path}`, missing);
}

/** @throws KmsError SOCKET_UNUSABLE */
export function startUnlocking({ source, held, hsm, hosts }: LockedToken): Promise<RunningUnlock> {
  return startUnlock({
    path: source.path,
    // With its line break, as it comes from a file.
    maxPinBytes: MAX_PIN_BYTES + 2,
    take: async (bytes) => {
      const pin = checkPin(bytes, source);
      if (hsm.readyHosts === hosts) {
        // Nothing would try it until a token host is replaced: a wrong one would then end the service.
        pin.fill(0);
        return { unlocked: true, message: ALREADY };
      }
      const state = await stateAfter(
        () => {
          held.give(pin);
        },
        () => hsm.state(),
        UNLOCK_MS,
      );
      const message = state.up
        ? "the token is logged in"
        : (state.reason?.message ?? "the token has not answered yet");
      return { unlocked: state.up, message };
    },
  });
}
