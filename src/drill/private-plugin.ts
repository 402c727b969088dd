// A plugin of its own for a drill: a process of this program with a socket, a state directory and a configuration in the
// private folder. It has no audit log and no HTTP endpoints. The PIN, which a token has just accepted, is sent to its unlock
// socket, so that it is in no file, argument or environment.
import { chownSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { actingEnvironment, actingUser, type ActingUser } from "../admin/acting-user.js";
import type { Operator } from "../admin/operator.js";
import { ConfiguredPin } from "../compose/configured-pin.js";
import { formatDuration } from "../config/duration.js";
import { describeRole } from "../config/login-role.js";
import { environmentWithoutPin } from "../config/pin-source.js";
import { formatPkcs11Uri } from "../config/pkcs11-uri.js";
import type { Settings, TokenSettings } from "../config/settings.js";
import { pinSourcesOf } from "../config/tokens.js";
import { KmsError } from "../errors.js";
import { KmsClient, type KmsStatus } from "../kms-client/kms-client.js";
import { writePrivate, type PrivateFolder } from "./private-folder.js";
import { pluginEnvironment, type PrivateProcess, type ProcessGroup } from "./private-process.js";
import type { Found } from "./step-clock.js";

const MAIN = fileURLToPath(new URL("../main.js", import.meta.url));
/** In addition to the time that the token may take to open. */
const READY_MS = 30_000;
const STATUS_MS = 3_000;

/** Sends a PIN to an unlock socket. @throws KmsError PEER_UNREACHABLE */
export type SendPin = (
  socket: string,
  pin: Uint8Array,
) => Promise<{ readonly unlocked: boolean; readonly message: string }>;

export interface PluginPlace {
  readonly settings: Settings;
  readonly operator: Operator;
  readonly folder: PrivateFolder;
  readonly sendPin: SendPin;
  readonly processes: ProcessGroup;
}

/** A running plugin. */
export interface PrivatePlugin extends Found {
  readonly socket: string;
  stop(): Promise<void>;
}

/** Starts a plugin and waits until its Status is ok and it has encrypted and decrypted. @throws KmsError */
export async function startPrivatePlugin(place: PluginPlace): Promise<PrivatePlugin> {
  const supplied = await pinsOf(place);
  try {
    const { child, folder } = start(
      place,
      supplied.map((pin) => pin !== undefined),
    );
    const stop = (): Promise<void> => child.stop(true);
    try {
      const { keyId } = await unlockAndTry(child, place, folder, supplied);
      return { socket: socketIn(folder), stop, detail: `healthz ok, round trip under key_id ${keyId}` };
    } catch (error) {
      await stop();
      throw error;
    }
  } finally {
    for (const pin of supplied) pin?.fill(0);
  }
}

/** Starts the process, in a folder that belongs to its user. @param hasPin whether each token has a PIN */
function start(
  { settings, operator, folder: whole, processes }: PluginPlace,
  hasPin: readonly boolean[],
): { readonly child: PrivateProcess; readonly folder: string } {
  const user = actingUser(settings, operator);
  const folder = join(whole.path, "plugin");
  mkdirSync(folder, { mode: 0o700 });
  const config = join(folder, "config.json");
  writePrivate(config, `${JSON.stringify(pluginDocument(settings, folder, hasPin), null, 2)}\n`);
  if (user !== undefined) {
    whole.openForPlugin();
    for (const path of [folder, config]) chownSync(path, user.uid, user.gid);
  }
  const child = processes.start({
    name: "the private plugin",
    command: [...asUserCommand(user), process.execPath, MAIN, "serve", "--config", config],
    folder,
    env: environmentOf(settings, user, folder),
    logFile: join(whole.path, "plugin.log"),
  });
  return { child, folder };
}

function environmentOf(settings: Settings, user: ActingUser | undefined, folder: string): NodeJS.ProcessEnv {
  const env = environmentWithoutPin(process.env, settings.tokens.flatMap(pinSourcesOf));
  return pluginEnvironment(actingEnvironment(user, env), folder);
}

/** The plugin acts as the user of the token's library, as token hosts of commands do. */
function asUserCommand(user: ActingUser | undefined): string[] {
  if (user === undefined) return [];
  const { uid, gid, groups } = user;
  const supplementary = groups.length === 0 ? "--clear-groups" : `--groups=${groups.join(",")}`;
  return ["setpriv", `--reuid=${uid}`, `--regid=${gid}`, supplementary, "--"];
}

/** Returns each token's PIN, which the caller zeroes; undefined for a token without one. */
async function pinsOf({ settings, operator }: PluginPlace): Promise<(Buffer | undefined)[]> {
  const pins: (Buffer | undefined)[] = [];
  for (const token of settings.tokens) {
    const supplied = await operator.pins.supplied(settings, token);
    pins.push(supplied === undefined ? new ConfiguredPin(token.pin, process.env).read() : supplied.read());
  }
  return pins;
}

/** Returns the plugin's configuration: the tokens and the HSM's limits are those of the drill's. */
function pluginDocument(settings: Settings, folder: string, hasPin: readonly boolean[]): object {
  const { allowUnprotected, pinnedKey, mode, mechanism, hsm } = settings;
  const [first, ...others] = settings.tokens.map((token, at) => ({
    uri: formatPkcs11Uri(token.uri).replace(/\?.*$/, ""),
    module: moduleOf(token),
    login: { role: describeRole(token.userType) },
    ...(hasPin[at] === true && { pin: { unlock: unlockIn(folder, at) } }),
  }));
  const { uri, ...token } = first ?? {};
  return {
    apiVersion: "kms-pkcs11.dev/v1",
    kind: "PluginConfiguration",
    mode,
    mechanism,
    keys: { uri, allowUnprotected, ...(pinnedKey !== undefined && { active: pinnedKey }) },
    ...token,
    failover: others,
    socket: { path: socketIn(folder) },
    stateDir: join(folder, "state"),
    hsm: {
      ...hsm,
      hosts: 1,
      requestTimeoutMs: undefined,
      startTimeoutMs: undefined,
      requestTimeout: formatDuration(hsm.requestTimeoutMs),
      startTimeout: formatDuration(hsm.startTimeoutMs),
    },
  };
}

function moduleOf({ modulePath, moduleEntry, moduleParameters }: TokenSettings): object {
  return { path: modulePath, entry: moduleEntry, parameters: moduleParameters };
}

const socketIn = (folder: string): string => join(folder, "kms.sock");
const unlockIn = (folder: string, at: number): string => join(folder, `unlock-${at}.sock`);

/** Repeats every failed step until the time is over: on a busy machine, a single request may be late without a fault. */
async function unlockAndTry(
  child: PrivateProcess,
  { settings, sendPin }: PluginPlace,
  folder: string,
  pins: readonly (Buffer | undefined)[],
): Promise<KmsStatus> {
  const client = new KmsClient(socketIn(folder), STATUS_MS);
  const limitMs = READY_MS + settings.hsm.startTimeoutMs;
  let last: KmsStatus | undefined;
  /** What the plugin lacked last. */
  let lacks: string | undefined;
  try {
    await child.until(async () => (await statusOf(client)) !== undefined, limitMs);
    for (const [at, pin] of pins.entries()) {
      if (pin === undefined) continue;
      const { unlocked, message } = await sendPin(unlockIn(folder, at), pin);
      // A token that has not answered yet gets the PIN when it does.
      if (!unlocked) lacks = message;
    }
    await child.until(async () => {
      last = await statusOf(client);
      if (last?.healthz !== "ok") return false;
      lacks = await whyNoRoundTrip(client);
      return lacks === undefined;
    }, limitMs);
  } catch (error) {
    const { code } = KmsError.from(error);
    if (code === "CANCELLED" || code === "NOT_AUTHENTIC") throw error;
    if (last !== undefined && last.healthz !== "ok") lacks = last.healthz;
    if (lacks !== undefined) throw child.failure(`is not healthy (${lacks})`);
    throw error;
  } finally {
    client.close();
  }
  return last ?? { version: "", healthz: "", keyId: "" };
}

/** Returns the plugin's Status; undefined while nothing answers. While its HSM is away, the error is its health. */
async function statusOf(client: KmsClient): Promise<KmsStatus | undefined> {
  try {
    return await client.status();
  } catch (error) {
    const { message } = KmsError.from(error);
    return message.includes("no plugin answers") ? undefined : { version: "", healthz: message, keyId: "" };
  }
}

/** Returns why a round trip fails; undefined if it does not. @throws KmsError if the plugin decrypts to other bytes */
async function whyNoRoundTrip(client: KmsClient): Promise<string | undefined> {
  const text = Buffer.from("a drill's round trip, 32 bytes...");
  let opened: Buffer;
  try {
    opened = await client.decrypt(await client.encrypt(text, "drill"), "drill");
  } catch (error) {
    return KmsError.from(error).message;
  }
  if (opened.equals(text)) return undefined;
  throw new KmsError("NOT_AUTHENTIC", "the private plugin decrypts to other bytes");
}
