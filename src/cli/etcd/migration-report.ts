// The output of `etcd migrate`: by resource the objects under the active KEK before and after, the reasons for objects
// that are left, and what to do next.
import type { MigrationResult } from "../../admin/migrate-stored.js";
import type { Migrated } from "../../etcd/migration.js";
import type { Survey, SurveyRow } from "../../etcd/survey.js";
import { formatTable } from "../table.js";
import { oneLine } from "../../untrusted-text.js";
import type { EtcdMigrateOutput } from "../output-schema/etcd.js";

/** Returns the JSON document of a migration. */
export function migrationJson({
  keyId,
  isDryRun,
  before,
  done,
}: MigrationResult): Omit<EtcdMigrateOutput, "next"> {
  const after = { after: before, failures: [] };
  return { keyId, dryRun: isDryRun, before, ...(done ?? after) };
}

/** Returns the text of a migration. */
export function describeMigration({ keyId, isDryRun, before, done }: MigrationResult): string {
  const after = done?.after ?? before;
  const concerned = after.rows.filter(({ current, stale, unreadable }) => current + stale + unreadable > 0);
  const table = formatTable(
    ["RESOURCE", "OBJECTS", "UNDER THE KEY", "BEFORE", "LEFT", "IN CLEAR"],
    concerned.map((row) => cells(row, before)),
  );
  const clear = after.rows.filter((row) => row.clear > 0 && row.current === 0);
  const sum = clear.reduce((objects, row) => objects + row.clear, 0);
  return [
    `key_id ${keyId}`,
    table,
    ...(done?.failures ?? []).map(({ resource, objects, reason, example }) =>
      oneLine(`not rewritten: ${objects} of ${resource}: ${reason}${example === "" ? "" : ` (${example})`}`),
    ),
    ...(sum > 0
      ? [`in clear, but outside the resources to encrypt: ${sum} objects of ${clear.length} resources`]
      : []),
    verdict(done, after, isDryRun),
  ].join("\n");
}

function cells(row: SurveyRow, before: Survey): string[] {
  const earlier = before.rows.find(({ resource }) => resource === row.resource);
  const left = row.stale + row.unreadable;
  return [row.resource, row.objects, row.current, earlier?.current ?? 0, left, row.clear].map(String);
}

function verdict(done: Migrated | undefined, after: Survey, isDryRun: boolean): string {
  const at = `at revision ${after.revision}`;
  if (after.left === 0) {
    const how = done === undefined ? "" : `${done.rewritten} rewritten; `;
    return `${how}nothing is left ${at}`;
  }
  const rewritten = String(done?.rewritten ?? 0);
  if (isDryRun) return `${rewritten} of ${after.left} objects would be rewritten (dry run, ${at})`;
  const why =
    done?.interrupted === true
      ? "interrupted; run it again to continue"
      : "correct what prevents it and run it again";
  return `${rewritten} rewritten; ${after.left} objects are left ${at}; ${why}`;
}
