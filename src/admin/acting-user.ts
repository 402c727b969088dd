// The user whom a command's token hosts act as. A library that keeps its objects in files makes them for the user who runs
// it, and the plugin could not read root's. So root's commands act as the user of the plugin, which owns the state
// directory. The command itself stays root: it reads the PIN and writes the state directory and the audit log.
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import { folderClosedTo } from "../files/closed-folder.js";
import type { HostUser } from "../hsm/wire-user.js";
import type { Operator } from "./operator.js";

export interface ActingUser extends HostUser {
  /** Absent if the system has no entry for the user. */
  readonly name?: string;
  readonly home: string;
}

/** A file of the program, as the token host's files are. */
const PROGRAM = fileURLToPath(import.meta.url);
/** Variables that name folders and services of the user who runs the command. */
const OF_THE_CALLER = /^(XDG_\w+|DBUS_SESSION_BUS_ADDRESS|MAIL)$/;

const known = new WeakMap<Settings, ActingUser | "caller">();

/**
 * Returns the user whom token hosts act as, and reports it to the operator at the first call; undefined for the user who runs
 * the command, as always if that is not root.
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
export function warnOfUnknownUser({ actAs, stateDir }: Settings, operator: Operator): void {
  const isClear = actAs !== undefined || stateDir === undefined || existsSync(stateDir);
  if (isClear || process.geteuid?.() !== 0) return;
  operator.notify(
    `acting as root, since ${stateDir} does not exist yet; if the plugin runs as another user, give --as USER`,
  );
}

/** Returns the environment of a token host that acts as `user`, as its own login would set it. */
export function actingEnvironment(user: ActingUser | undefined, env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  if (user === undefined) return env;
  const kept = Object.entries(env).filter(([name]) => !OF_THE_CALLER.test(name));
  const name = user.name ?? String(user.uid);
  return { ...Object.fromEntries(kept), HOME: user.home, USER: name, LOGNAME: name };
}

function findUser({ actAs, stateDir }: Settings, operator: Operator): ActingUser | undefined {
  const caller = process.geteuid?.() ?? 0;
  if (actAs !== undefined) return checked(namedUser(actAs), caller, stateDir, operator, "--as");
  if (caller !== 0 || stateDir === undefined) return undefined;
  const owner = statSync(stateDir, { throwIfNoEntry: false });
  if (owner === undefined) return undefined;
  const user = systemUser(String(owner.uid)) ?? { uid: owner.uid, gid: owner.gid, groups: [], home: "/" };
  return checked(user, caller, stateDir, operator, `the owner of ${stateDir}`);
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
  user: ActingUser,
  caller: number,
  stateDir: string | undefined,
  operator: Operator,
  why: string,
): ActingUser | undefined {
  if (user.uid === caller) return undefined;
  if (caller !== 0) throw new KmsError("CONFIG_INVALID", "--as: only root can act as another user");
  const who = user.name === undefined ? `uid ${user.uid}` : `${user.name} (uid ${user.uid})`;
  const closed = folderClosedTo(PROGRAM, user);
  if (closed !== undefined) {
    throw new KmsError(
      "CONFIG_INVALID",
      `user ${who}, ${why}, may not enter ${closed}, on the way to this program; install it where that user may read it, such as in /opt, or give --as root`,
    );
  }
  operator.notify(`acting as ${who}, ${why === "--as" ? "as --as says" : why}`);
  const more = stateDir === undefined ? [] : groupsOfPlugin(user.uid, stateDir);
  return { ...user, groups: [...new Set([...user.groups, ...more])] };
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
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const status = readFileSync(`/proc/${pid}/status`, "utf8");
      if (Number(/^Uid:\t(\d+)/m.exec(status)?.[1]) !== uid) continue;
      const seen = statSync(`/proc/${pid}/root${stateDir}`);
      if (seen.dev !== dev || seen.ino !== ino) continue;
      for (const group of (/^Groups:\t(.*)$/m.exec(status)?.[1] ?? "").match(/\d+/g) ?? []) {
        groups.add(Number(group));
      }
    } catch {
      // It has ended, or does not see the folder.
    }
  }
  return [...groups];
}
