// The user whom a command's token hosts act as. A library that keeps its objects in files makes them for the user who runs
// it, and the plugin could not read root's. So root's commands act as the user of the plugin, which owns the state
// directory. The command itself stays root: it reads the PIN and writes the state directory and the audit log.
import { execFileSync } from "node:child_process";
import { existsSync, statSync, type Stats } from "node:fs";
import { fileURLToPath } from "node:url";
import { loginDirectory } from "../config/login-directory.js";
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import { folderClosedTo } from "../files/closed-folder.js";
import type { HostUser } from "../hsm/wire-user.js";
import type { Operator } from "./operator.js";
import { pluginPod } from "./plugin-pod.js";
import { pluginUnit, type PluginUnit } from "./plugin-unit.js";
import { runningProcesses } from "./running-processes.js";

export interface ActingUser extends HostUser {
  /** Absent if the system has no entry for the user. */
  readonly name?: string;
  readonly home: string;
  /** Variables of the plugin's unit or pod, for those that the caller does not set. */
  readonly environment?: PluginUnit["environment"];
}

/** A file of the program, as the token host's files are. */
const PROGRAM = fileURLToPath(import.meta.url);
/** Variables that name folders and services of the user who runs the command. */
const OF_THE_CALLER = /^(XDG_\w+|DBUS_SESSION_BUS_ADDRESS|MAIL)$/;

const known = new WeakMap<Settings, ActingUser | "caller">();

/**
 * Returns the user whom token hosts act as, and reports it to the operator at the first call. Returns undefined if they act
 * as the user who runs the command, as they always do unless root runs it.
 * @throws KmsError CONFIG_INVALID if there is no such user, or if it may not read this program
 */
export function actingUser(settings: Settings, operator: Operator): ActingUser | undefined {
  const before = known.get(settings);
  if (before !== undefined) return before === "caller" ? undefined : before;
  const user = findUser(settings, operator);
  known.set(settings, user ?? "caller");
  return user;
}

/** Warns root before it makes a key while nothing shows whom the plugin runs as: its state directory does not exist yet. */
export function warnOfUnknownUser(settings: Settings, operator: Operator): void {
  const { actAs } = settings;
  const stateDir = loginDirectory(settings);
  const isClear = actAs !== undefined || stateDir === undefined || existsSync(stateDir);
  if (isClear || process.geteuid?.() !== 0) return;
  operator.notify(
    `acting as root, since ${stateDir} does not exist yet; if the plugin runs as another user, give --as USER`,
  );
}

/** Returns how messages name the user, and why that user was chosen. */
export function describeUser(
  { uid, name }: ActingUser,
  settings: Settings,
): { readonly who: string; readonly why: string } {
  const { actAs } = settings;
  const stateDir = loginDirectory(settings);
  const who = name === undefined ? `uid ${uid}` : `${name} (uid ${uid})`;
  return { who, why: actAs === undefined ? `the owner of ${stateDir ?? ""}` : "as --as says" };
}

/** Returns the environment of a token host that acts as `user`, as its own login would set it. */
export function actingEnvironment(user: ActingUser | undefined, env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  if (user === undefined) return env;
  const kept = Object.entries(env).filter(([name]) => !OF_THE_CALLER.test(name));
  const name = user.name ?? String(user.uid);
  return { ...user.environment, ...Object.fromEntries(kept), HOME: user.home, USER: name, LOGNAME: name };
}

function findUser(settings: Settings, operator: Operator): ActingUser | undefined {
  const { actAs } = settings;
  const stateDir = loginDirectory(settings);
  const caller = process.geteuid?.() ?? 0;
  if (actAs !== undefined) return checked(namedUser(actAs), caller, settings, operator);
  if (caller !== 0 || stateDir === undefined) return undefined;
  const owner = statSync(stateDir, { throwIfNoEntry: false });
  if (owner === undefined) return undefined;
  const user = systemUser(String(owner.uid)) ?? { uid: owner.uid, gid: owner.gid, groups: [], home: "/" };
  return checked(user, caller, settings, operator);
}

function namedUser(given: string): ActingUser {
  const user = systemUser(given);
  if (user !== undefined) return user;
  const uid = Number(given);
  if (/^\d{1,10}$/.test(given) && uid < 2 ** 32 - 1) return { uid, gid: uid, groups: [], home: "/" };
  throw new KmsError("CONFIG_INVALID", `--as: there is no user "${given}"; give a name or a number`);
}

/** Completes the user and reports it. @throws KmsError CONFIG_INVALID */
function checked(
  systemsUser: ActingUser,
  caller: number,
  settings: Settings,
  operator: Operator,
): ActingUser | undefined {
  if (systemsUser.uid === caller) return undefined;
  if (caller !== 0) throw new KmsError("CONFIG_INVALID", "--as: only root can act as another user");
  const { actAs } = settings;
  const user = asPluginRuns(systemsUser, settings);
  const { who, why } = describeUser(user, settings);
  const closed = folderClosedTo(PROGRAM, user);
  if (closed !== undefined) {
    throw new KmsError(
      "CONFIG_INVALID",
      `user ${who}, ${actAs === undefined ? why : "--as"}, may not enter ${closed}, on the way to this program; install it where that user may read it, such as in /opt, or give --as root`,
    );
  }
  operator.notify(`acting as ${who}, ${why}`);
  return user;
}

/** Adds what a unit or a pod gives the plugin: groups that the system's list of the user does not show, and variables. */
function asPluginRuns(user: ActingUser, settings: Settings): ActingUser {
  const { actAsGroups = [] } = settings;
  const stateDir = loginDirectory(settings);
  const plugin = [pluginUnit(), pluginPod()].find(
    (found) => found !== undefined && [user.name, String(user.uid)].includes(found.user),
  );
  const groups = [
    ...user.groups,
    ...actAsGroups,
    ...(plugin?.groups.flatMap(groupId) ?? []),
    ...(stateDir === undefined ? [] : groupsOfPlugin(user.uid, stateDir)),
  ];
  return {
    ...user,
    groups: [...new Set(groups)],
    ...(plugin !== undefined && { environment: plugin.environment }),
  };
}

/** Returns the number of a group; a number need not be in the system's list. */
function groupId(nameOrGid: string): number[] {
  if (/^\d+$/.test(nameOrGid)) return [Number(nameOrGid)];
  try {
    return [Number(outputOf("getent", ["group", nameOrGid]).split(":")[2])];
  } catch {
    return [];
  }
}

/** Returns the system's entry of a user, by name or number; undefined if there is none. */
function systemUser(nameOrUid: string): ActingUser | undefined {
  if (nameOrUid.startsWith("-")) return undefined;
  try {
    const [name = "", , uid, gid, , home = ""] = outputOf("getent", ["passwd", nameOrUid]).split(":");
    const groups = outputOf("id", ["-G", name]).split(" ").map(Number);
    return { name, uid: Number(uid), gid: Number(gid), groups, home: home === "" ? "/" : home };
  } catch {
    return undefined;
  }
}

/** The system's databases of users have no other interface in Node.js. @throws Error if the command fails */
function outputOf(command: string, args: readonly string[]): string {
  return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trimEnd();
}

/**
 * Returns the groups of running processes of this user that see the same state directory: the plugin's, which a unit or a
 * pod may have given groups that the system's list does not show. A pod that does not mount it gives none.
 */
function groupsOfPlugin(uid: number, stateDir: string): number[] {
  const groups = new Set<number>();
  const { dev, ino } = statSync(stateDir, { throwIfNoEntry: false }) ?? {};
  for (const { pid, numbers } of runningProcesses()) {
    if (numbers("Uid")[0] !== uid) continue;
    const seen = statIfVisible(`/proc/${pid}/root${stateDir}`);
    if (seen === undefined || seen.dev !== dev || seen.ino !== ino) continue;
    for (const group of numbers("Groups")) groups.add(group);
  }
  return [...groups];
}

/** Returns undefined if the process has ended, or does not see the folder. */
function statIfVisible(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}
