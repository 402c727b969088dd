// The user whom a token host acts as, as the command that starts it says on its command line. A token host of the plugin
// keeps the plugin's user.

/** A user as the kernel knows it. */
export interface HostUser {
  readonly uid: number;
  readonly gid: number;
  /** Its supplementary groups. */
  readonly groups: readonly number[];
}

const OPTION = "--user=";

/** Returns the token host's arguments that make it act as `user`. */
export function userArguments(user: HostUser | undefined): string[] {
  if (user === undefined) return [];
  const { uid, gid, groups } = user;
  return [OPTION + JSON.stringify({ uid, gid, groups })];
}

/** Returns the user of `userArguments`; undefined if there is none. */
export function userFromArguments(args: readonly string[]): HostUser | undefined {
  const given = args.find((arg) => arg.startsWith(OPTION));
  return given === undefined ? undefined : (JSON.parse(given.slice(OPTION.length)) as HostUser);
}
