// What an operator does after a command has changed something, and how a result is printed with it: on standard error for
// people, in the field `next` of JSON. Knows commands by what they did, not their options.
import { formatJson, type OutputFormat, type Terminal } from "./output.js";

/** Something that was changed, with what the next step depends on. */
export type Change =
  | { readonly did: "create"; readonly lacking: readonly string[] }
  | {
      readonly did: "rotate";
      readonly lacking: readonly string[];
      /** ISO 8601. */
      readonly activation: string;
      /** The command that cancels the new KEK. */
      readonly cancel: string;
      /** key_id of the KEK that is replaced. */
      readonly from: string;
    }
  | { readonly did: "destroy"; readonly state: string }
  | { readonly did: keyof typeof STEPS };

/** Returns the next step as one sentence without a full stop. */
export function nextStep(change: Change): string {
  switch (change.did) {
    case "create":
      return change.lacking.length > 0
        ? `the KEK is not on ${change.lacking.join(", ")} yet; clone it there, and see 'kms-pkcs11 keys list'`
        : "run 'kms-pkcs11 check', then start the plugin on every node";
    case "rotate":
      return change.lacking.length > 0
        ? `not yet on every token and node: ${change.lacking.join(", ")}; the KEK becomes active at ${change.activation} nevertheless, unless '${change.cancel}' cancels it before that`
        : `until ${change.activation}, '${change.cancel}' cancels the new KEK; after that, run 'kms-pkcs11 etcd migrate', which says how to prove that ${change.from} is not needed any more, and to destroy it`;
    case "destroy":
      return change.state === "standby"
        ? "run 'kms-pkcs11 keys rotate' when another KEK is needed; the active KEK has not changed"
        : "back up etcd: earlier backups may hold objects under this KEK, which nobody can read any more";
    default:
      return STEPS[change.did];
  }
}

const STEPS = {
  "plan a rotation": "repeat the command without --dry-run",
  "plan a migration": "repeat the command without --dry-run",
  "migrate a part":
    "correct what prevents the rest, then repeat the command; it continues with the remaining objects",
  migrate:
    "run 'kms-pkcs11 etcd usage --report usage.json', then 'kms-pkcs11 keys destroy @retired --usage-report usage.json'",
  recover:
    "keep the backup: if the key is found later, the objects in it can be decrypted; create the deleted objects again from their source",
  "recover a part": "correct what prevents the rest, then repeat the command; see 'kms-pkcs11 etcd recover'",
  adopt: "run 'kms-pkcs11 keys rotate' when the next KEK is due",
  split:
    "every custodian runs 'kms-pkcs11 custody test'; then copy the sealed PIN to every node, set pin.unlock and pin.custody, and remove the PIN's earlier source",
  renew:
    "copy the sealed PIN to every node, run 'kms-pkcs11 lock' there, have custodians run 'kms-pkcs11 unlock --share', and destroy the earlier pages",
  "write a policy": "every approver runs 'kms-pkcs11 approvals policy sign'",
  "sign a policy": "run 'kms-pkcs11 approvals policy verify' to see whether it is in force",
  propose: "every approver runs 'kms-pkcs11 approvals sign'",
  "sign a proposal": "run 'kms-pkcs11 approvals show' to see whether signatures are missing",
  lock: "run 'kms-pkcs11 unlock' to let the plugin use the HSM again",
  unlock: "run 'kms-pkcs11 status --wait 30s'",
  "send a share": "the next custodian runs 'kms-pkcs11 unlock --share'",
  deliver: "repeat the command on every other node, then run 'kms-pkcs11 keys list --nodes'",
} as const;

export interface Result {
  /** The JSON document without `next`. */
  readonly json: object;
  readonly text: string;
  /** Undefined if nothing was changed, or the error that follows says what to do. */
  readonly change: Change | undefined;
}

/** Prints the result of a command that changes something. */
export function printResult({ json, text, change }: Result, output: OutputFormat, terminal: Terminal): void {
  const next = change === undefined ? null : nextStep(change);
  if (output === "json") {
    terminal.out(formatJson({ ...json, next }));
    return;
  }
  if (text !== "") terminal.out(text);
  if (next !== null) terminal.err(`next: ${next}`);
}
