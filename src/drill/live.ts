// Keeps a drill away from the live cluster: compares its configuration with that of the live plugin on this machine, path by
// path and token by token, before anything is opened. Describes tokens without a login, so that no PIN attempt is spent.
import { realpathSync } from "node:fs";
import { connect } from "node:net";
import { dirname, join, resolve, sep } from "node:path";
import { describeToken } from "../admin/token-description.js";
import type { Operator } from "../admin/operator.js";
import { formatHttpAddress } from "../config/http-address.js";
import { formatPkcs11Uri } from "../config/pkcs11-uri.js";
import type { Settings, TokenSettings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import type { DrillReport } from "../evidence/drill-report.js";
import type { TokenDescription } from "../hsm/port.js";

/** A configuration, and the file that it was read from. */
export interface Configured {
  readonly path: string | undefined;
  readonly settings: Settings;
}

export type DrillToken = DrillReport["tokens"][number];

/**
 * Requires that the drill's configuration shares no file, socket or address with the live plugin's, and that no plugin
 * answers on its socket. @throws KmsError CONFIG_INVALID
 */
export async function requireApart(drill: Configured, live: Configured | undefined): Promise<void> {
  if (live !== undefined) requireOtherPaths(drill, live);
  const { socket } = drill.settings;
  if (socket === undefined) return;
  const name = socket.abstract ? `\0${socket.path}` : socket.path;
  if (await answers(name)) {
    throw refusal(
      `socket.path: a plugin answers on ${socket.path}, so this is the configuration of a live one`,
    );
  }
}

function requireOtherPaths(drill: Configured, live: Configured): void {
  const file = live.path ?? "";
  if (drill.path !== undefined && realPath(drill.path) === realPath(file)) {
    throw refusal(`--config: ${drill.path} is the live configuration`);
  }
  const own = placesOf(drill.settings);
  for (const [setting, place] of placesOf(live.settings)) {
    for (const [ownSetting, ownPlace] of own) {
      if (isWithin(place, ownPlace) || isWithin(ownPlace, place)) {
        throw refusal(`${ownSetting}: ${ownPlace} is that of the live configuration (${setting} in ${file})`);
      }
    }
  }
}

function refusal(what: string): KmsError {
  const how =
    "a drill stays away from the live cluster; give it a configuration of its own that names the restored token or the clone";
  return new KmsError("CONFIG_INVALID", `${what}; ${how}`);
}

/** Returns each path and address that a plugin with these settings would use for itself. */
function placesOf({ socket, stateDir, audit, http, tokens }: Settings): [string, string][] {
  const places: [string, string | undefined][] = [
    ["socket.path", socket && (socket.abstract ? `@${socket.path}` : realPath(socket.path))],
    ["stateDir", stateDir && realPath(stateDir)],
    ["audit.file", audit && realPath(audit.file)],
    ["audit.keyFile", audit && realPath(audit.keyFile)],
    ["http.address", http && http.port !== 0 ? formatHttpAddress(http) : undefined],
    ...tokens.map(({ pin }): [string, string | undefined] => [
      "pin.unlock",
      pin.kind === "unlock" ? realPath(pin.path) : undefined,
    ]),
  ];
  return places.flatMap(([setting, place]) => (place === undefined ? [] : [[setting, place]]));
}

function isWithin(place: string, folder: string): boolean {
  return place === folder || place.startsWith(folder + sep);
}

/** Returns the path with its links resolved, as far as the path exists. */
function realPath(path: string): string {
  const whole = resolve(path);
  try {
    return realpathSync(whole);
  } catch {
    const above = dirname(whole);
    return above === whole ? whole : join(realPath(above), whole.slice(above.length));
  }
}

/** Returns whether something listens on a unix socket. */
export function answers(path: string): Promise<boolean> {
  return new Promise((done) => {
    const probe = connect({ path });
    probe.once("connect", () => {
      probe.destroy();
      done(true);
    });
    probe.once("error", (error: NodeJS.ErrnoException) => {
      // A full backlog, or a socket that this user may not open, has a listener or may have one.
      done(error.code === "EAGAIN" || error.code === "EACCES");
    });
  });
}

/** How the tokens of a drill relate to those of the live plugin. */
export interface ComparedTokens {
  readonly tokens: readonly DrillToken[];
  /** Whether one of them has the serial number of a live one, or could not be compared. */
  readonly mayBeLive: boolean;
}

/**
 * Describes the drill's tokens and compares their serial numbers with those of the live tokens, without a login.
 * @param isAllowed whether a token may be a live one, which the operator has accepted
 * @throws KmsError CONFIG_INVALID if one may be and that is not allowed; otherwise as opening the drill's tokens does
 */
export async function compareTokens(
  drill: Settings,
  live: Configured | undefined,
  isAllowed: boolean,
  operator: Operator,
): Promise<ComparedTokens> {
  requireOtherNames(drill, live, isAllowed);
  const descriptions: TokenDescription[] = [];
  for (const token of drill.tokens) descriptions.push(await describeToken(drill, token, operator));
  if (live === undefined) {
    return { tokens: descriptions.map((one) => drillToken(one, "not compared")), mayBeLive: false };
  }
  const others = await liveTokens(live, isAllowed, operator);
  const tokens = descriptions.map((one) =>
    drillToken(
      one,
      others === undefined
        ? "not compared"
        : others.some((other) => isSame(one, other))
          ? "same serial number"
          : "no",
    ),
  );
  const same = tokens.find((one) => one.live === "same serial number");
  if (same !== undefined && !isAllowed) {
    throw new KmsError(
      "CONFIG_INVALID",
      `token "${same.label}" has the serial number ${same.serial} of the live one; name the restored token or the clone. ${ALLOW}`,
    );
  }
  return { tokens, mayBeLive: same !== undefined || others === undefined };
}

const ALLOW =
  "If it is a copy that kept the number, or if the KEKs of the live token are to be read, add --live-token";

/** Refuses a token that both configurations name in the same way, which needs no library. */
function requireOtherNames(drill: Settings, live: Configured | undefined, isAllowed: boolean): void {
  if (live === undefined || isAllowed) return;
  const names = live.settings.tokens.map(nameOf);
  const same = drill.tokens.find((token) => names.includes(nameOf(token)));
  if (same === undefined) return;
  const uri = formatPkcs11Uri(same.uri).replace(/\?.*$/, "");
  throw new KmsError("CONFIG_INVALID", `${uri} names the live token, as ${live.path ?? ""} does. ${ALLOW}`);
}

function nameOf({ uri, modulePath, moduleParameters = "" }: TokenSettings): string {
  const { token, serial, slotId, manufacturer, model } = uri;
  return JSON.stringify([realPath(modulePath), moduleParameters, token, serial, slotId, manufacturer, model]);
}

/** Returns the live tokens; undefined if one cannot be described, which must be allowed. */
async function liveTokens(
  { settings, path }: Configured,
  isAllowed: boolean,
  operator: Operator,
): Promise<TokenDescription[] | undefined> {
  const found: TokenDescription[] = [];
  for (const token of settings.tokens) {
    try {
      found.push(await describeToken(settings, token, operator));
    } catch (error) {
      const why = `cannot tell whether a token is a live one, since the token of ${path ?? ""} does not answer: ${KmsError.from(error).message}`;
      if (!isAllowed) throw new KmsError("CONFIG_INVALID", `${why}. ${ALLOW}`, error);
      operator.notify(why);
      return undefined;
    }
  }
  return found;
}

function isSame(one: TokenDescription, other: TokenDescription): boolean {
  return one.serial === other.serial && one.manufacturer === other.manufacturer && one.model === other.model;
}

function drillToken(
  { label, serial, manufacturer, model }: TokenDescription,
  live: DrillToken["live"],
): DrillToken {
  return { label, serial, manufacturer, model, live };
}
