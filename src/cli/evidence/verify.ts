// `kms-pkcs11 evidence verify`: checks a folder of evidence offline.
import type { Command } from "commander";
import { KmsError } from "../../errors.js";
import { verifyEvidence } from "../../evidence/verify.js";
import { oneLine } from "../../untrusted-text.js";
import { EXIT_NO } from "../exit-code.js";
import type { EvidenceVerifyOutput } from "../output-schema/evidence.js";
import { formatJson, type OutputFormat, type Terminal } from "../output.js";

interface VerifyOptions {
  readonly manifest?: string;
  readonly output: OutputFormat;
}

/** Adds `evidence verify`. */
export function addEvidenceVerifyCommand(evidence: Command, terminal: Terminal): void {
  evidence
    .command("verify <folder>")
    .description("check that a folder of evidence is complete and unchanged; exit 0 if it is, 1 if not")
    .option("--manifest <digest>", "the digest that 'evidence collect' printed, as sha256:HEX")
    .addHelpText(
      "after",
      `
Reads only the folder: no configuration, token or network. Without --manifest it cannot notice that somebody has replaced
files and manifest together.

Example:
  kms-pkcs11 evidence verify evidence-2026-11 --manifest sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef`,
    )
    .action((folder: string, _local, command: Command) => {
      const options = command.optsWithGlobals<VerifyOptions>();
      const report = verifyEvidence(folder, digestOf(options.manifest));
      if (options.output === "json") terminal.out(formatJson(report satisfies EvidenceVerifyOutput));
      else terminal.out(describe(report));
      if (report.problems.length > 0) process.exitCode = EXIT_NO;
    });
}

const ADVICE =
  "This folder is not what was collected: get a copy from where it was kept, or collect the evidence again.";

function describe({ manifest, collectedAt, files, problems }: ReturnType<typeof verifyEvidence>): string {
  if (problems.length > 0) return [...problems.map(oneLine), ADVICE].join("\n");
  return `${files} files, collected ${collectedAt ?? ""}, complete and unchanged\nmanifest sha256:${manifest}`;
}

function digestOf(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const digest = /^(?:sha256:)?([0-9a-f]{64})$/.exec(text)?.[1];
  if (digest !== undefined) return digest;
  throw new KmsError("CONFIG_INVALID", "--manifest: is not a digest; give sha256: and 64 hexadecimal digits");
}
