// A node's decision about each KEK: whether it may become active. The approvals are files in the state directory, which
// anybody may have written; each is verified under the policy in force. If the policy becomes unusable, the last one that
// could be verified stays in force. If there is none, the node activates only KEKs that it has used before.
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { KmsError } from "../errors.js";
import { readRegular } from "../files/regular-file.js";
import type { Log } from "../log.js";
import { oneLine, truncate } from "../untrusted-text.js";
import { formatSecond } from "./document.js";
import { loadPolicy, type PolicySource } from "./policy-file.js";
import type { Policy } from "./policy.js";
import {
  countsFrom,
  neededFor,
  parseApproval,
  requireInstantCovered,
  requireQuorum,
  type Approval,
} from "./proposal.js";
import { refused } from "./refused.js";

/** Maximum number of files that are read, in the order of their names. */
const MAX_FILES = 500;
/** Longest file, in bytes. */
const MAX_APPROVAL_BYTES = 64 * 1024;
const FILE = /^approval-[A-Za-z0-9._-]{1,120}\.json$/;

export interface NodeApprovalsOptions extends PolicySource {
  readonly stateDir: string;
  /** Names of the configured tokens. */
  readonly tokens: readonly string[];
  readonly log: Log;
}

/**
 * Returns the path of an approval in a state directory. Approvals lie directly in that directory: the plugin's user
 * could not read a folder that root creates.
 */
export function approvalPath(stateDir: string, digest: string): string {
  return join(stateDir, `approval-${digest.replace("sha256:", "")}.json`);
}

/** What is known of a KEK on a token. */
export interface KekFacts {
  /** Key_ids that name its value. */
  readonly names: readonly string[];
  readonly label: string;
  /** ms since the epoch; -Infinity for a label without an instant. */
  readonly activation: number;
}

/** A stored approval of a KEK. */
interface Finding {
  readonly approval: Approval;
  /** Why it does not count; undefined if it does. */
  readonly refusal: string | undefined;
}

/** Reads policy and approvals, and decides from memory. */
export class NodeApprovals {
  readonly #options: NodeApprovalsOptions;
  #policy: Policy | undefined;
  #findings: readonly Finding[] = [];
  #seen = "";
  /** When an approval that was dated ahead begins to count, or a person's no longer do, in ms since the epoch. */
  #judgeAgainAt = Infinity;
  #problem: string | undefined;

  constructor(options: NodeApprovalsOptions) {
    this.#options = options;
  }

  /** Why the configured policy or the approvals cannot be used; undefined if they can. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Reads what has changed, and judges again at times that change whose approvals count. Never throws. */
  refresh(): void {
    try {
      const files = this.#fingerprint();
      const asOf = Date.now();
      if (files === this.#seen && asOf < this.#judgeAgainAt) return;
      this.#policy = loadPolicy(this.#options).policy;
      this.#findings = this.#readAll(this.#policy);
      // Without the ends, a node that was restarted after one would decide otherwise than the rest.
      const starts = this.#findings.map(({ approval }) => countsFrom(approval.proposal));
      const ends = this.#policy.people.map(({ expires }) => Date.parse(expires ?? ""));
      this.#judgeAgainAt = Math.min(...[...starts, ...ends].filter((time) => time > asOf));
      this.#seen = files;
      this.#report(undefined);
    } catch (error) {
      this.#seen = "";
      this.#report(
        `the approval policy cannot be used, so no further KEK becomes active: ${KmsError.from(error).message}`,
      );
    }
  }

  /** Returns why a KEK must not become active; undefined if it may. */
  refusalOf(kek: KekFacts): string | undefined {
    const policy = this.#policy;
    if (policy === undefined) return this.#problem ?? "the approval policy has not been read";
    const needed = neededFor(policy, "activate");
    const { names } = kek;
    if (needed === 0 || policy.keksInUse.some((keyId) => names.includes(keyId))) return undefined;
    if (names.length === 0) return "its key_id does not name its value, so an approval cannot name it";
    const about = this.#findings.filter(({ approval }) => names.includes(approval.proposal.keyId ?? ""));
    const reasons = about.map((finding) => finding.refusal ?? mismatch(finding.approval, kek));
    if (reasons.includes(undefined)) return undefined;
    return reasons[0] ?? `no approval by ${needed} people has been delivered to this node`;
  }

  #report(problem: string | undefined): void {
    if (problem === this.#problem) return;
    this.#problem = problem;
    if (problem === undefined) this.#options.log.info({}, "the approval policy is in force");
    else this.#options.log.error({}, problem);
  }

  /** Returns a text that changes when a file does. */
  #fingerprint(): string {
    const { policy, stateDir } = this.#options;
    const paths = [policy, ...this.#files().map((file) => join(stateDir, file))];
    return paths
      .map((path) => {
        const stat = statSync(path, { throwIfNoEntry: false, bigint: true });
        return `${path}:${stat?.mtimeNs}:${stat?.size}:${stat?.ino}`;
      })
      .join("\n");
  }

  #files(): string[] {
    try {
      const names = readdirSync(this.#options.stateDir);
      return names
        .filter((file) => FILE.test(file))
        .sort()
        .slice(0, MAX_FILES);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw error;
    }
  }

  #readAll(policy: Policy): Finding[] {
    return this.#files().flatMap((file) => {
      try {
        const approval = readApproval(join(this.#options.stateDir, file));
        return [{ approval, refusal: this.#refusal(policy, approval, file) }];
      } catch (error) {
        this.#options.log.warn({ file }, `approval ignored: ${textOf(error)}`);
        return [];
      }
    });
  }

  #refusal(policy: Policy, approval: Approval, file: string): string | undefined {
    try {
      requireActivation(policy, approval, this.#options.tokens);
      return undefined;
    } catch (error) {
      const refusal = `its approval ${file} is refused: ${textOf(error)}`;
      this.#options.log.warn({ file, keyId: approval.proposal.keyId }, refusal);
      return refusal;
    }
  }
}

/**
 * Requires that an approval permits the activation of a KEK on one of these tokens. Its expiry limits the activation
 * instants that it covers, so that all nodes decide alike, whatever their clocks say, and again after a restart.
 * @returns the approvers' names
 * @throws KmsError NOT_APPROVED
 */
export function requireActivation(
  policy: Policy,
  approval: Approval,
  tokens: readonly string[],
): readonly string[] {
  const { operation, token } = approval.proposal;
  if (operation !== "activate") throw refused(`it approves "${operation}", not the activation`);
  if (!tokens.includes(token)) throw refused(`it is for token "${oneLine(token)}"`);
  requireInstantCovered(approval.proposal);
  return requireQuorum(policy, approval);
}

/** Reads an approval. @throws KmsError NOT_APPROVED, CONFIG_INVALID; NodeJS.ErrnoException */
function readApproval(path: string): Approval {
  return parseApproval(readRegular(path, MAX_APPROVAL_BYTES).toString("utf8"));
}

/** A valid approval is for one label and instant: relabelling the KEK does not move its activation. */
function mismatch({ proposal }: Approval, { label, activation }: KekFacts): string | undefined {
  if (proposal.label === label && proposal.activation === formatSecond(activation)) return undefined;
  return `its approval is for label "${oneLine(proposal.label)}", active from ${proposal.activation}`;
}

function textOf(error: unknown): string {
  return truncate(oneLine(error instanceof KmsError ? error.message : (error as Error).message), 300);
}
