// Records in the audit log what an operator does with a command: who, why, on which KEK, and the outcome. A change of a
// KEK is also recorded before it begins, so that a command that is killed leaves its intent. If the log cannot be
// written, `audit.required` stops such a command; otherwise the operator sees a warning.
import { readFileSync } from "node:fs";
import { hostname, userInfo } from "node:os";
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import { fileError } from "../files/file-error.js";
import { AuditWriter } from "../audit/writer.js";
import type { OperatorEvent } from "../audit/line.js";
import { holdInterrupts, type InterruptNotices } from "./interrupts.js";
import type { Operator } from "./operator.js";

export interface Operation {
  /** As the command is called: "keys destroy". */
  readonly operation: string;
  readonly keyId?: string;
  /** In the operator's words. */
  readonly reason?: string;
  /** "ok", an error's code, or in a word why nothing was changed; "begun" for an intent. */
  readonly outcome: string;
  readonly details?: NonNullable<OperatorEvent["details"]>;
}

const MAX_REASON = 1024;
/** The value in /proc/self/loginuid of a process that no login started. */
const NO_LOGIN = 4_294_967_295;

/** Records an event, or warns the operator if that fails. Does nothing if no audit log is configured. Never throws. */
export async function recordOperatorEvent(
  settings: Settings,
  operator: Operator,
  operation: Operation,
): Promise<void> {
  await recordOperatorEvents(settings, operator, [operation]);
}

/** Records events, all or none, or warns the operator. Never throws. */
export async function recordOperatorEvents(
  settings: Settings,
  operator: Operator,
  operations: readonly Operation[],
): Promise<void> {
  try {
    await append(settings, operator, operations);
  } catch (error) {
    operator.notify(
      `warning: the audit log ${settings.audit?.file ?? ""} does not record this: ${reasonOf(error)}`,
    );
  }
}

/**
 * Records a change that is about to be made.
 * @throws KmsError CONFIG_INVALID when the audit log is required and cannot be written
 */
export async function recordIntent(
  settings: Settings,
  operator: Operator,
  operation: Omit<Operation, "outcome">,
): Promise<void> {
  const event = { ...operation, outcome: "begun" };
  if (settings.audit?.required === true) await insistOnOperatorEvent(settings, operator, event);
  else await recordOperatorEvent(settings, operator, event);
}

/** Records an event before an operation that must not go unrecorded. @throws KmsError CONFIG_INVALID if that fails */
export async function insistOnOperatorEvent(
  settings: Settings,
  operator: Operator,
  operation: Operation,
): Promise<void> {
  try {
    await append(settings, operator, [operation]);
  } catch (error) {
    const message = `the audit log cannot be written, so the operation was not started: ${reasonOf(error)}`;
    throw new KmsError("CONFIG_INVALID", message, error);
  }
}

function reasonOf(error: unknown): string {
  return fileError(error)?.message ?? (error instanceof Error ? error.message : String(error));
}

async function append(
  { audit }: Settings,
  operator: Operator,
  operations: readonly Operation[],
): Promise<void> {
  if (audit === undefined) return;
  const [time, who] = [Date.now(), identityOf(process.env)];
  const events = operations.map(({ reason, ...operation }): OperatorEvent => ({
    event: "operator",
    ...operation,
    ...(reason !== undefined && { reason: reason.slice(0, MAX_REASON) }),
    operator: who,
  }));
  const writer = new AuditWriter(audit, (text) => {
    operator.notify(`warning: ${text}`);
  });
  await writer.append(events.map((event) => ({ time, event })));
}

/** Records that a change is about to be made, with what is known about it. */
export type Begin = (known?: Partial<Operation>) => Promise<void>;

/**
 * Does the work and records the outcome. After `begin`, the first interrupt waits for the work and its record; the
 * second ends the process.
 * @param work calls `begin` immediately before the first change, and stops if that throws
 * @param known returns what the result adds to the event, such as another outcome if the work failed in part
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
    release = holdInterrupts(noticesOf(operation, settings, operator));
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

function noticesOf(
  { operation }: Pick<Operation, "operation">,
  { audit }: Settings,
  operator: Operator,
): InterruptNotices {
  const recorded = audit === undefined ? "" : "; the audit log has its beginning, not its outcome";
  const next = operation.startsWith("keys ") ? "; see 'kms-pkcs11 keys list'" : "";
  return {
    operator,
    first: "interrupted: finishing the operation in progress; interrupt again to exit now",
    unfinished: () => `"${operation}" may be unfinished${recorded}${next}`,
  };
}

/**
 * Anybody can set sudo's variables in the environment; the kernel maintains the login uid, which survives sudo and su.
 */
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
