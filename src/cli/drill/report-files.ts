// The files of a drill's report: JSON for `evidence collect`, and the same for people. Their names are dated, and they never
// replace anything.
import { closeSync, fsyncSync, openSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { KmsError } from "../../errors.js";
import type { DrillReport } from "../../evidence/drill-report.js";
import { fileError } from "../../files/file-error.js";
import { syncFolder } from "../../files/state-file.js";
import { requireWritableFolder } from "../../files/writable-folder.js";

/** Requires, before the drill begins, that its report can be written to the folder. @throws KmsError CONFIG_INVALID */
export function requireReportFolder(folder: string): void {
  try {
    const stats = statSync(folder, { throwIfNoEntry: false });
    if (stats?.isDirectory() !== true) {
      const problem = stats === undefined ? "does not exist; create it" : "is not a folder; name one";
      throw new KmsError("CONFIG_INVALID", `--to: ${folder} ${problem}`);
    }
    requireWritableFolder(folder);
  } catch (error) {
    throw fileError(error) ?? error;
  }
}

/**
 * Writes both files, readable for their owner only.
 * @returns the path of the JSON
 * @throws KmsError CONFIG_INVALID; neither file is left then
 */
export function writeDrillReport(folder: string, report: DrillReport, text: string): string {
  const name = `drill-${report.startedAt.replace(/\.\d+Z$/, "Z").replaceAll(":", "-")}`;
  const written: string[] = [];
  try {
    for (let copy = 1; ; copy++) {
      const base = join(folder, copy === 1 ? name : `${name}-${copy}`);
      try {
        written.push(writeNew(`${base}.json`, `${JSON.stringify(report, null, 2)}\n`));
      } catch (error) {
        // Two drills may begin in one second.
        if ((error as NodeJS.ErrnoException).code === "EEXIST") continue;
        throw error;
      }
      written.push(writeNew(`${base}.txt`, `${text}\n`));
      syncFolder(folder);
      return `${base}.json`;
    }
  } catch (error) {
    for (const path of written) rmSync(path, { force: true });
    throw fileError(error) ?? error;
  }
}

function writeNew(path: string, text: string): string {
  const file = openSync(path, "wx", 0o600);
  try {
    writeFileSync(file, text);
    fsyncSync(file);
  } catch (error) {
    rmSync(path, { force: true });
    throw Object.assign(error as Error, { path });
  } finally {
    closeSync(file);
  }
  return path;
}
