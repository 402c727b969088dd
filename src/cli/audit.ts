// `kms-pkcs11 audit verify`: finds every line of the audit log that was changed, removed, moved or added.
import type { Command } from "commander";
import { KmsError } from "../errors.js";
import type { AuditReport } from "../audit/verify.js";
import { verifyAudit } from "../audit/verify.js";
import { EXIT_NO } from "./exit-code.js";
import { formatJson, type Terminal } from "./output.js";
import { formatTable } from "./table.js";
import { startProgress } from "./progress.js";
import { addClusterOption, settingsFrom, type SettingsOptions } from "./settings-options.js";
import type { AuditVerifyOutput } from "./output-schema/plugin.js";

interface VerifyOptions extends SettingsOptions {
  readonly file?: string;
  readonly keyFile?: string;
}

interface AuditFiles {
  readonly file: string;
  readonly keyFile: string;
}

const UNREADABLE = new Set(["ENOENT", "EACCES", "EPERM", "ENOTDIR", "EISDIR"]);

/** Adds `audit verify`. */
export function addAuditCommand(program: Command, terminal: Terminal): void {
  const audit = program.command("audit");
  addClusterOption(audit.command("verify"))
    .description(
      "verify the chain of the audit log over all its files; exit 0 if it is intact, 1 with the first wrong line if not",
    )
    .option(
      "-c, --config <file>",
      "configuration file that names the log and its key; default: $KMS_PKCS11_CONFIG, or /etc/kms-pkcs11/config.yaml",
    )
    .option("--file <path>", "the audit log, with its rotated files beside it; overrides audit.file")
    .option("--key-file <path>", "the key of the audit log; overrides audit.keyFile")
    .option("--state-dir <dir>", "folder of audit.key if no key file is given; overrides stateDir")
    .addHelpText(
      "after",
      `
Example:
  kms-pkcs11 audit verify --config /etc/kms-pkcs11/config.yaml
  kms-pkcs11 audit verify --file /srv/collected/audit.log --key-file /root/audit.key`,
    )
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<VerifyOptions>();
      const report = await verify(auditFiles(options), terminal);
      terminal.out(
        options.output === "json" ? formatJson(report satisfies AuditVerifyOutput) : describe(report),
      );
      if (report.problems.length > 0) process.exitCode = EXIT_NO;
    });
}

/** Returns the log and its key from the options or the configuration. @throws KmsError CONFIG_INVALID */
function auditFiles(options: VerifyOptions): AuditFiles {
  const { file, keyFile } = options;
  if (file !== undefined && keyFile !== undefined) return { file, keyFile };
  const { audit } = settingsFrom(options, false);
  if (audit === undefined) {
    throw new KmsError(
      "CONFIG_INVALID",
      "the configuration does not set audit.file; set it, or give --file and --key-file",
    );
  }
  return { file: file ?? audit.file, keyFile: keyFile ?? audit.keyFile };
}

async function verify(files: AuditFiles, terminal: Terminal): Promise<AuditReport> {
  const progress = startProgress(terminal, "bytes", 1);
  try {
    return await verifyAudit(files, {
      onBytes: (done, total) => {
        progress.update(done, total);
      },
    });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined || !UNREADABLE.has(code)) throw error;
    throw new KmsError(
      "CONFIG_INVALID",
      `${files.file}: cannot be read (${code}); give readable files`,
      error,
    );
  } finally {
    progress.end();
  }
}

function describe({ files, lines, first, last, problems, remarks }: AuditReport): string {
  const rows = [
    ["files", String(files.length)],
    ["lines", String(lines)],
    ["first", first === null ? "none" : `number ${first.seq}, ${first.time}`],
    ["last", last === null ? "none" : `number ${last.seq}, ${last.time}`],
    ...remarks.map((remark) => ["remark", sentence(remark)]),
    ...problems.map((problem) => ["problem", sentence(problem)]),
    ["verdict", problems.length === 0 ? "nothing was changed or removed" : "this log has been changed"],
  ];
  return formatTable(["", ""], rows).trimStart();
}

function sentence({ file, line, problem }: AuditReport["problems"][number]): string {
  return line === 0 ? `${file} ${problem}` : `${file}:${line} ${problem}`;
}
