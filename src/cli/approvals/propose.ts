// `kms-pkcs11 approvals propose`: writes what is proposed, signed by its proposer, for approvers to sign.
import { Option, type Command } from "commander";
import { digestOfFile, formatSecond } from "../../approvals/document.js";
import { readPolicy } from "../../approvals/policy-file.js";
import { OPERATIONS, type Operation } from "../../approvals/policy.js";
import {
  DEFAULT_VALIDITY_MS,
  formatApproval,
  propose,
  requireInstantCovered,
  standingOf,
} from "../../approvals/proposal.js";
import { refused } from "../../approvals/refused.js";
import { requireNew, writeNewDocument } from "../../approvals/write-document.js";
import { parseInstant } from "../../provider/kek-label.js";
import { durationOf } from "../duration-option.js";
import { requireKeyId } from "./key-id.js";
import { printResult } from "../next-step.js";
import type { Terminal } from "../output.js";
import { addSigningOptions, signProposal, type SigningOptions } from "./signing.js";
import type { ProposeOutput } from "../output-schema/approvals.js";

interface ProposeOptions extends SigningOptions {
  readonly policy: string;
  readonly proposer: string;
  readonly operation: Operation;
  readonly kek?: string;
  readonly label: string;
  readonly token: string;
  readonly object?: string;
  readonly usageReport?: string;
  readonly list?: string;
  readonly reason: string;
  readonly valid?: string;
}

const HELP = `
Copy key_id and label from 'keys list'. An approval of "activate" covers an activation instant before it expires; it may be
delivered later. The proposer's own signature never counts as an approval.

Example:
  kms-pkcs11 approvals propose activate.json --policy policy.json --operation activate --kek 0193...c1 \\
    --label kms-kek@20261201T100000Z --token kms --proposer olga --reason "quarterly rotation" --identity ~/.ssh/id_ed25519`;

/** Adds `approvals propose`. */
export function addProposeCommand(approvals: Command, terminal: Terminal): void {
  addSigningOptions(approvals.command("propose"))
    .description("write a proposal, signed by its proposer, for approvers to sign")
    .argument("<file>", "the new file")
    .requiredOption("--policy <file>", "the policy in force")
    .requiredOption("--proposer <name>", "your name in the policy")
    .addOption(
      new Option("--operation <name>", "what is proposed").choices([...OPERATIONS]).makeOptionMandatory(),
    )
    .option(
      "--kek <key_id>",
      "the whole key_id of the KEK; omit it for rotate, which makes the KEK, and for recover",
    )
    .requiredOption(
      "--label <label>",
      "the KEK's label, such as kms-kek@20261201T100000Z; for recover the number, such as '3 objects'",
    )
    .requiredOption("--token <name>", "the token's label or serial number, as in keys.uri")
    .option("--object <key>", "for read: the key in etcd")
    .option("--usage-report <file>", "a report of etcd usage that the proposal relies on")
    .option("--list <file>", "for recover: the output of 'etcd recover -o json'")
    .requiredOption("--reason <text>", "why, for approvers and the audit log")
    .option(
      "--valid <duration>",
      "for how long the proposal can be approved, such as 24h (the default), at most 168h",
    )
    .addHelpText("after", HELP)
    .action(async (file: string, _local, command: Command) => {
      await proposeAndSign(file, command.optsWithGlobals<ProposeOptions>(), terminal);
    });
}

async function proposeAndSign(file: string, options: ProposeOptions, terminal: Terminal): Promise<void> {
  const { operation, kek, label, token, object, usageReport, list, proposer, reason, valid } = options;
  requireNew(file);
  if (kek !== undefined) requireKeyId("--kek", kek);
  const report = usageReport ?? list;
  const policy = readPolicy(options.policy);
  const validityMs = valid === undefined ? DEFAULT_VALIDITY_MS : durationOf("--valid", valid, "24h");
  const instant = parseInstant(label.slice(label.lastIndexOf("@") + 1));
  const draft = {
    operation,
    cluster: policy.cluster,
    token,
    keyId: kek ?? null,
    label,
    activation: instant === undefined ? null : (formatSecond(instant) ?? null),
    object: object ?? null,
    report: report === undefined ? null : digestOfFile(report),
    proposer,
    reason,
  };
  const approval = propose(draft, Date.now(), validityMs);
  const { proposal } = approval;
  requireInstantCovered(proposal);
  const signed = await signProposal(approval, options, terminal);
  if (!standingOf(policy, signed).isProposed) throw refused(`the key of --identity is not ${proposer}'s`);
  writeNewDocument(file, formatApproval(signed));
  const text = `wrote ${file}; it can be approved until ${proposal.expires}`;
  const shown = {
    json: { file, proposal } satisfies Omit<ProposeOutput, "next">,
    text,
    change: { did: "propose" } as const,
  };
  printResult(shown, options.output, terminal);
}
