// The part of `kms-pkcs11 check` that decides with whose rights it checks, and tests whether kube-apiserver's user can
// open the socket.
import { actingUser, describeUser, type ActingUser } from "../../admin/acting-user.js";
import { connectionProblem, findApiserverUser, type ApiserverUser } from "../../admin/apiserver-access.js";
import { asUser } from "../../admin/as-user.js";
import type { Operator } from "../../admin/operator.js";
import type { Settings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import type { Report } from "./findings.js";
import { checkNode } from "./node.js";

export interface PluginCheck {
  readonly settings: Settings;
  readonly configPath: string | undefined;
  readonly probesApiserver: boolean;
  readonly report: Report;
  /** systemd reads the PIN's file as root and passes it on. */
  readonly systemdReadsPin?: boolean;
}

const isRoot = (): boolean => process.getuid?.() === 0;

/**
 * Adds the findings about files and sockets, as the plugin's user. Returns the line that names this user, and whether
 * the module may be loaded.
 */
export async function checkAsPlugin(
  { settings, configPath, probesApiserver, report, systemdReadsPin = false }: PluginCheck,
  operator: Operator,
): Promise<{ readonly who: string; readonly mayLoad: boolean }> {
  let user: ActingUser | undefined;
  const found = await report.attempt("user", () => {
    user = actingUser(settings, { ...operator, notify: () => undefined });
  });
  const who = describe(user, settings);
  if (!found) return { who, mayLoad: false };
  const target = probesApiserver ? findTarget(report) : undefined;
  const probe =
    target &&
    ((path: string): void => {
      probeApiserver(path, target, settings, report);
    });
  const check = { settings, configPath, report, probe, systemdReadsPin };
  const mayLoad = await asUser(user, () => checkNode(check));
  return { who, mayLoad };
}

function describe(user: ActingUser | undefined, settings: Settings): string {
  if (user === undefined) {
    const uid = process.geteuid?.() ?? 0;
    const hint =
      uid === 0 && settings.actAs === undefined ? "; if the plugin runs as another user, give --as USER" : "";
    return `checked as uid ${uid}, who runs this command${hint}`;
  }
  const { who, why } = describeUser(user, settings);
  return `checked as ${who}, ${why}`;
}

function findTarget(report: Report): ApiserverUser | undefined {
  if (isRoot()) return findApiserverUser();
  const text = "--probe-apiserver: only root can connect as another user; run this as root";
  report.fail("apiserver", new KmsError("CONFIG_INVALID", text));
  return undefined;
}

/** The effective user is the plugin's here; the child that connects must begin as root. */
function probeApiserver(path: string, target: ApiserverUser, settings: Settings, report: Report): void {
  const effective = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
  process.seteuid?.(0);
  let problem: string | undefined;
  try {
    problem = connectionProblem(path, target);
  } finally {
    process.seteuid?.(effective.uid);
  }
  const { uid, gid, groups, source } = target;
  const all = [...new Set([gid, ...groups])].join(", ");
  const who = `kube-apiserver (uid ${uid}, groups ${all}; from ${source})`;
  const socket = settings.socket?.path ?? path;
  if (problem === undefined) {
    report.add("ok", "apiserver", `${who} can open ${socket}`);
    return;
  }
  const text = `${who} cannot open ${socket} (${problem}); set socket.mode to "0660" and socket.group to one of its groups, let that group enter the folder, or add the plugin's group to its supplementalGroups`;
  report.fail("apiserver", new KmsError("SOCKET_UNUSABLE", text));
}
