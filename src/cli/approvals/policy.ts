// `kms-pkcs11 approvals policy`: makes versions of a policy, signs them, and verifies their chain.
import { existsSync } from "node:fs";
import type { Command } from "commander";
import { canonicalBytes, digestOf } from "../../approvals/canonical-json.js";
import { describePolicy } from "../../approvals/describe.js";
import { readDocument } from "../../approvals/document.js";
import {
  formatChain,
  parseChain,
  quorumsOf,
  verifyChain,
  type PolicyChain,
} from "../../approvals/policy-chain.js";
import { refused, refusedOf } from "../../approvals/refused.js";
import { readForChange, replaceDocument, writeNewDocument } from "../../approvals/write-document.js";
import { printResult } from "../next-step.js";
import { formatJson, type OutputFormat, type Terminal } from "../output.js";
import { formatFacts, formatTable } from "../table.js";
import { collect } from "../collect-option.js";
import { nextPolicy, type PolicyOptions } from "./policy-options.js";
import { addSigningOptions, signAfterAsking, type SigningOptions } from "./signing.js";
import type { PolicyInitOutput, PolicySignOutput, PolicyVerifyOutput } from "../output-schema/approvals.js";

interface InitOptions extends PolicyOptions {
  readonly output: OutputFormat;
}

interface VerifyOptions {
  readonly root?: string;
  readonly output: OutputFormat;
}

const INIT_HELP = `
The file holds every version of the policy. --next adds a version that starts as a copy of the last one; options replace
people, change thresholds and add KEKs. A version is in force once enough of its own approvers and of the previous version's
have signed it; the threshold "policy" of each version sets the number.

Name the active KEK with --kek-in-use: nodes then use it without an approval. Do the same in every later version that
removes a person, since approvals count under the latest version only.

Example:
  kms-pkcs11 approvals policy init policy.json --cluster prod-1 --threshold policy=2 --threshold activate=2 \\
    --threshold destroy=2 --approver alice=alice.pub --approver bob=bob.pub --approver carol=carol.pub \\
    --kek-in-use 0193...c1`;

/** Adds `approvals policy init`, `sign` and `verify`. */
export function addPolicyCommands(approvals: Command, terminal: Terminal): void {
  const policy = approvals.command("policy").description("make, sign and verify the policy");
  addInit(policy, terminal);
  addSigningOptions(policy.command("sign"))
    .description("show the latest version of a policy and sign it with ssh-keygen")
    .argument("<file>", "the policy; the signature is added to it")
    .addHelpText(
      "after",
      "\nExample:\n  kms-pkcs11 approvals policy sign policy.json --identity ~/.ssh/id_ed25519_sk",
    )
    .action(async (file: string, _local, command: Command) => {
      await signPolicy(file, command.optsWithGlobals<SigningOptions>(), terminal);
    });
  policy
    .command("verify")
    .description("verify every version of a policy; exit 0 if the latest is in force, 1 if not")
    .argument("<file>", "the policy")
    .option("--root <digest>", "digest that the first version must have, as approvals.root pins it")
    .addHelpText(
      "after",
      "\nExample:\n  kms-pkcs11 approvals policy verify policy.json --root sha256:5f3a...9e",
    )
    .action((file: string, _local, command: Command) => {
      verifyPolicy(file, command.optsWithGlobals<VerifyOptions>(), terminal);
    });
}

function addInit(policy: Command, terminal: Terminal): void {
  policy
    .command("init")
    .description("write a new policy, or its next version, for approvers to sign")
    .argument("<file>", "the policy")
    .option("--next", "add a version to an existing policy")
    .option("--cluster <name>", "the cluster that the policy is for")
    .option("--approver <name=file>", "a person who approves, with a public key; repeat it for each", collect)
    .option(
      "--requester <name=file>",
      "a person who only proposes, with a public key; repeat it for each",
      collect,
    )
    .option("--expires <name=time>", "when a person's signatures stop counting; repeat it for each", collect)
    .option(
      "--threshold <operation=n>",
      "approvers required for policy, activate, rotate, destroy, adopt, read, recover or renew; 0 for none; repeat it for each",
      collect,
    )
    .option(
      "--kek-in-use <key_id>",
      "a KEK that needs no approval because it is in use; repeat it for each",
      collect,
    )
    .option("--touch-only", "accept security keys that were touched but did not verify their holder")
    .addHelpText("after", INIT_HELP)
    .action((file: string, _local, command: Command) => {
      initPolicy(file, command.optsWithGlobals<InitOptions>(), terminal);
    });
}

function initPolicy(file: string, options: InitOptions, terminal: Terminal): void {
  const before = options.next === true || existsSync(file) ? readForChange(file) : undefined;
  const versions =
    before === undefined ? [] : refusedOf(file, () => extensible(before.text, options.next === true));
  const made = { policy: nextPolicy(options, versions.at(-1)?.policy, Date.now()), signatures: [] };
  const text = formatChain([...versions, made]);
  quorumsOf(parseChain(text).versions);
  if (before !== undefined) replaceDocument(before, text);
  else writeNewDocument(file, text);
  const { version } = made.policy;
  const digest = digestOf(made.policy);
  const shown = {
    json: { file, version, digest } satisfies Omit<PolicyInitOutput, "next">,
    text: `wrote version ${version} to ${file} (${digest})`,
    change: { did: "write a policy" } as const,
  };
  printResult(shown, options.output, terminal);
}

/** Returns the versions of a policy, all in force: 'policy sign' signs the latest one only. @throws KmsError NOT_APPROVED */
function extensible(text: string, isNext: boolean): PolicyChain["versions"] {
  const chain = parseChain(text);
  if (!isNext) throw refused("holds a policy already; add a version with --next");
  verifyChain(chain, undefined);
  return chain.versions;
}

async function signPolicy(file: string, options: SigningOptions, terminal: Terminal): Promise<void> {
  const before = readForChange(file);
  const { versions } = refusedOf(file, () => parseChain(before.text));
  const last = versions.at(-1);
  if (last === undefined) throw refused(`${file}: the policy has no version`);
  refusedOf(file, () => quorumsOf(versions));
  const signature = await signAfterAsking(
    describePolicy(last.policy),
    canonicalBytes(last.policy),
    options,
    terminal,
  );
  const signed = { ...last, signatures: [...last.signatures, signature] };
  const text = formatChain([...versions.slice(0, -1), signed]);
  const quorum = quorumsOf(parseChain(text).versions).at(-1);
  replaceDocument(before, text);
  const { version } = last.policy;
  const { own = [], ownNeeded = 0 } = quorum ?? {};
  const shown = {
    json: { file, version, signedBy: own, needed: ownNeeded } satisfies Omit<PolicySignOutput, "next">,
    text: `signed version ${version}: ${own.join(", ")} of ${ownNeeded}`,
    change: { did: "sign a policy" } as const,
  };
  printResult(shown, options.output, terminal);
}

function verifyPolicy(file: string, { root, output }: VerifyOptions, terminal: Terminal): void {
  const document = readDocument(file);
  const chain = refusedOf(file, () => parseChain(document));
  const quorums = refusedOf(file, () => quorumsOf(chain.versions));
  const last = chain.versions.at(-1);
  if (output === "json") {
    terminal.out(formatJson({ versions: quorums, policy: last?.policy } satisfies PolicyVerifyOutput));
  } else {
    const rows = quorums.map(({ version, digest, own, ownNeeded, before, beforeNeeded }) => [
      String(version),
      `${own.length} of ${ownNeeded}: ${own.join(", ")}`,
      version === 1 ? "" : `${before.length} of ${beforeNeeded}: ${before.join(", ")}`,
      digest,
    ]);
    terminal.out(formatTable(["VERSION", "SIGNED BY", "OF THE PREVIOUS VERSION", "DIGEST"], rows));
    if (last !== undefined) terminal.out(formatFacts(describePolicy(last.policy)));
  }
  refusedOf(file, () => verifyChain(chain, root));
}
