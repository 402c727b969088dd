// `kms-pkcs11 audit verify`: finds every line of the audit log that was changed, removed, moved or added.
import type { Command } from "commander";
import { KmsError } from "../errors.js";
import type { AuditReport } from "../audit/verify.js";
import { verifyAudit } from "../audit/verify.js";
import { EXIT_NO } from "./exit-code.js";
import { formatJson, formatTable, type Terminal } from "./output.js";
import { startProgress } from "./progress.js";
import { settingsFrom, type SettingsOptions } from "./settings-options.js";

interface VerifyOptions extends SettingsOptions {
  readonly file?: string;
  readonly keyFile?: string;
}

interface Place {
  readonly file: string;
  readonly keyFile: string;
}

const UNREADABLE = new Set(["ENOENT", "EACCES", "EPERM", "ENOTDIR", "EISDIR"]);

export function addAuditCommand(program: Command, terminal: Terminal): void {
  const audit = program.command("audit").description("the audit log");
  audit
    .command("verify")
    .description(
      "check the audit log's chain over all its files; exit 0 if nothing was changed or removed, 1 with the line if it was",
    )
    .option("-c, --config <file>", "configuration file that names the log and its key")
    .option(
      "--file <path>",
      "the log, instead of the configuration's audit.file; rotated files lie beside it",
    )
    .option("--key-file <path>", "its key, instead of the configuration's audit.keyFile")
    .option("--state-dir <dir>", "folder of the key where neither names it; overrides stateDir")
    .addHelpText(
      "after",
      `
Example:
  kms-pkcs11 audit verify --config /etc/kms-pkcs11/config.yaml
  kms-pkcs11 audit verify --file /srv/collected/audit.log --key-file /root/audit.key`,
    )
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<VerifyOptions>();
      const report = await verify(placeOf(options), terminal);
      terminal.out(options.output === "json" ? formatJson(report) : describe(report));
      if (report.problems.length > 0) process.exitCode = EXIT_NO;
    });
}

/** @throws KmsError CONFIG_INVALID */
function placeOf(options: VerifyOptions): Place {
  const { file, keyFile } = options;
  if (file !== undefined && keyFile !== undefined) return { file, keyFile };
  if (options.config === undefined) {
    throw new KmsError("CONFIG_INVALID", "give --config, or --file and --key-file");
  }
  const { audit } = settingsFrom(options, false);
  if (audit === undefined) {
    throw new KmsError("CONFIG_INVALID", "the configuration sets no audit.file; give --file and --key-file");
  }
  return { file: file ?? audit.file, keyFile: keyFile ?? audit.keyFile };
}

async function verify(place: Place, terminal: Terminal): Promise<AuditReport> {
  const progress = startProgress(terminal, "bytes", 1);
  try {
    return await verifyAudit(place, (done, total) => {
      progress.update(done, total);
    });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined || !UNREADABLE.has(code)) throw error;
    throw new KmsError("CONFIG_INVALID", `${place.file}: cannot be read (${code})`, error);
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
    [
      "verdict",
      problems.length === 0 ? "nothing was changed or removed" : "this log is not as it was written",
    ],
  ];
  return formatTable(["", ""], rows).trimStart();
}

function sentence({ file, line, problem }: AuditReport["problems"][number]): string {
  return line === 0 ? `${file} ${problem}` : `${file}:${line} ${problem}`;
}
