// `kms-pkcs11 evidence collect`: writes a folder for an auditor. Changes nothing else, and what it writes holds no secret.
import type { Command } from "commander";
import { requireFree, writeEvidence } from "../../evidence/folder.js";
import { evidenceFiles } from "../../evidence/files.js";
import { VERSION } from "../../version.js";
import { operatorAt } from "../operator.js";
import type { EvidenceCollectOutput } from "../output-schema/evidence.js";
import { formatJson, type Terminal } from "../output.js";
import {
  addClusterOption,
  addPinOption,
  addServeOptions,
  configurationFrom,
  type SettingsOptions,
} from "../settings-options.js";
import { gather } from "./gather.js";

interface CollectOptions extends SettingsOptions {
  readonly to: string;
  readonly usageReport?: string;
  readonly verification?: string;
  readonly drill?: string;
}

const HELP = `
The folder has index.html, a page that needs nothing else and prints on A4, the files that it was made from, and
manifest.json with their digests. It must not exist yet, and appears complete or not at all. The last line is the digest of
the manifest: keep it apart from the folder, since it identifies everything in it.

Collected are the KEKs with their findings and ages, the findings of 'check', the audit log's verification, its events
without requests, counts of requests, versions, and the installed packages. It logs in as 'check' and 'keys list' do; a wrong
PIN costs one attempt. Objects in etcd are included if you give the reports of these commands:
  kms-pkcs11 etcd usage --report usage.json ...
  kms-pkcs11 etcd verify -o json ... > verification.json

and the last rehearsal of disaster recovery if you give its report:
  kms-pkcs11 drill --to FOLDER ...

Example:
  kms-pkcs11 evidence collect --config /etc/kms-pkcs11/config.yaml --to evidence-2026-11 \\
    --usage-report usage.json --verification verification.json --drill drill-2026-11-27T08-00-00Z.json`;

/** Adds `evidence collect`. */
export function addEvidenceCollectCommand(evidence: Command, terminal: Terminal): void {
  addPinOption(addClusterOption(addServeOptions(evidence.command("collect"))))
    .description("write a folder with a page for an auditor, the files behind it, and their digests")
    .requiredOption("--to <folder>", "folder to write; it must not exist")
    .option("--usage-report <file>", "report of 'etcd usage --report' to include")
    .option("--verification <file>", "output of 'etcd verify -o json' to include")
    .option("--drill <file>", "report of 'drill' to include: its file drill-TIME.json")
    .addHelpText("after", HELP)
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<CollectOptions>();
      requireFree(options.to);
      const { settings, origin } = configurationFrom(options, false);
      const inputs = { settings, configPath: origin.file?.path, ...options };
      const facts = await gather(inputs, operatorAt(terminal));
      const manifest = writeEvidence(options.to, evidenceFiles(facts), VERSION, facts.collectedAt);
      const written = { folder: options.to, manifest } satisfies EvidenceCollectOutput;
      if (options.output === "json") terminal.out(formatJson(written));
      else terminal.out(`${options.to}/index.html\nmanifest sha256:${manifest}`);
    });
}
