// What a person does with a command, for the audit log: who as far as the system knows it, why, on which key and
// how it ended. What changes a KEK is recorded before it is begun as well, so that a command that is killed leaves its
// intent. If the log cannot be written, `audit.required` stops such a command; otherwise the terminal says
// that the event is missing.
import { readFileSync } from "node:fs";
import { hostname, userInfo } from "node:os";
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import { AuditWriter } from "../audit/writer.js";
import type { OperatorEvent } from "../audit/line.js";
import { holdInterrupts } from "./interrupts.js";
import type { Operator } from "./operator.js";

export interface Operation {
  /** As the command is called: "keys destroy". */
  readonly operation: string;
  readonly keyId?: string;
  /** In the operator's words. */
  readonly reason?: string;
  /** "ok" or an error's code; "begun" for what is about to be done. */
  readonly outcome: string;
  readonly details?: NonNullable<OperatorEvent["details"]>;
}

const MAX_REASON = 1024;
/** What /proc/self/loginuid holds for a process that no login led to. */
const NO_LOGIN = 4_294_967_295;

/** Does nothing without an audit log in the settings. Never throws. */
export async function recordOperatorEvent(
  settings: Settings,
  operator: Operator,
  operation: Operation,
): Promise<void> {
  try {
    await append(settings, operation);
  } catch (error) {
    operator.notify(
      `warning: this is not in the audit log ${settings.audit?.file ?? ""}: ${reasonOf(error)}`,
    );
  }
}

/**
 * Records what is about to be changed.
 * @throws KmsError CONFIG_INVALID where the audit log is required and cannot be written
 */
export async function recordIntent(
  settings: Settings,
  operator: Operator,
  operation: Omit<Operation, "outcome">,
): Promise<void> {
  const event = { ...operation, outcome: "begun" };
  if (settings.audit?.required === true) await insistOnOperatorEvent(settings, event);
  else await recordOperatorEvent(settings, operator, event);
}

/** For what must not be done unrecorded. @throws KmsError CONFIG_INVALID when the event cannot be written */
export async function insistOnOperatorEvent(settings: Settings, operation: Operation): Promise<void> {
  try {
    await append(settings, operation);
  } catch (error) {
    const message = `the audit log cannot be written, and without it nothing is done: ${reasonOf(error)}`;
    throw new KmsError("CONFIG_INVALID", message, error);
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function append({ audit }: Settings, { reason, ...operation }: Operation): Promise<void> {
  if (audit === undefined) return;
  const event: OperatorEvent = {
    event: "operator",
    ...operation,
    ...(reason !== undefined && { reason: reason.slice(0, MAX_REASON) }),
    operator: identityOf(process.env),
  };
  await new AuditWriter(audit).append([{ time: Date.now(), event }]);
}

/** Records that a change is about to be made, with what is known of it by now. */
export type Begin = (known?: Partial<Operation>) => Promise<void>;

/**
 * Does the work and records how it ended. Once it has begun, an interrupt does not end it before it is recorded; a second
 * one does.
 * @param work calls `begin` immediately before the first change, and does not go on when that throws
 * @param known what its result adds to what was known before; an outcome where it can fail in part
 * @throws what `work` throws
 */
export async function audited<T>(
  settings: Settings,
  operator: Operator,
  operation: Omit<Operation, "outcome">,
  work: (begin: Begin) => Promise<T>,
  known: (result: T) => Partial<Operation> = () => ({}),
): Promise<T> {
  let release = (): void => undefined;
  const begin: Begin = async (begun) => {
    release = holdInterrupts(() => {
      operator.notify("interrupted: what is begun is finished first; interrupt again to end at once");
    });
    await recordIntent(settings, operator, { ...operation, ...begun });
  };
  try {
    const result = await work(begin).catch(async (error: unknown) => {
      await recordOperatorEvent(settings, operator, { ...operation, outcome: KmsError.from(error).code });
      throw error;
    });
    await recordOperatorEvent(settings, operator, { ...operation, outcome: "ok", ...known(result) });
    return result;
  } finally {
    release();
  }
}

/** sudo's variables are a claim of the environment; the login uid is the kernel's and outlasts sudo and su. */
function identityOf(env: NodeJS.ProcessEnv): OperatorEvent["operator"] {
  const uid = process.getuid?.() ?? -1;
  return {
    uid,
    user: nameOf(uid),
    ...(env["SUDO_USER"] !== undefined && { sudoUser: env["SUDO_USER"].slice(0, 64) }),
    ...loginUid(),
    host: hostname(),
    pid: process.pid,
  };
}

function nameOf(uid: number): string {
  try {
    return userInfo().username;
  } catch {
    // A container's user need not be in its /etc/passwd.
    return String(uid);
  }
}

function loginUid(): { loginUid?: number } {
  try {
    const uid = Number(readFileSync("/proc/self/loginuid", "utf8"));
    return Number.isSafeInteger(uid) && uid !== NO_LOGIN ? { loginUid: uid } : {};
  } catch {
    return {};
  }
}
