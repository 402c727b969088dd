// The backup that must exist before unreadable objects are deleted: a key that is found later decrypts them from it.
import { KmsError } from "../../errors.js";
import type { UnreadableObject } from "../../etcd/unreadable.js";
import { withSnapshot } from "../etcd-source.js";
import type { Operator } from "../operator.js";

export interface Backup {
  readonly file: string;
  readonly sha256: string;
  /** When the file was last written, ISO 8601. */
  readonly writtenAt: string;
  readonly revision: number;
}

export interface BackupDemand {
  readonly file: string;
  readonly maxAgeMs: number;
  /** kube-apiserver's `--etcd-prefix`. */
  readonly prefix: string;
}

/** Largest difference between the clocks of the machine that wrote the file and this one, in ms. */
const CLOCK_ERROR_MS = 5 * 60_000;

/**
 * Requires a snapshot whose hash is correct, which is recent enough and contains every object at its present revision.
 * @throws KmsError CONFIG_INVALID
 */
export async function requireBackup(
  demand: BackupDemand,
  objects: readonly Pick<UnreadableObject, "key" | "modRevision">[],
  operator: Operator,
): Promise<Backup> {
  const { file, prefix } = demand;
  const options = { skipHashCheck: false, option: "--backup" };
  return withSnapshot(file, options, operator, async (snapshot) => {
    const { source, writtenAt } = snapshot;
    requireAge(demand, writtenAt);
    const missing = new Map(objects.map(({ key, modRevision }) => [key, modRevision]));
    const store = snapshot.store(prefix);
    for await (const { key, modRevision } of store.objects()) {
      if (missing.get(key) === modRevision) missing.delete(key);
    }
    const [first] = missing.keys();
    if (first !== undefined) {
      throw invalid(
        `${file} does not contain ${missing.size} of the ${objects.length} objects as they are now, such as ${first}; save a new snapshot of this etcd`,
      );
    }
    return {
      file,
      sha256: source.kind === "snapshot" ? source.sha256 : "",
      writtenAt: new Date(writtenAt).toISOString(),
      revision: store.revisions?.last ?? 0,
    };
  });
}

/** Requires that a backup is recent enough. @throws KmsError CONFIG_INVALID */
export function requireAge({ file, maxAgeMs }: BackupDemand, writtenAt: number): void {
  const ageMs = Date.now() - writtenAt;
  if (ageMs < -CLOCK_ERROR_MS) {
    throw invalid(`${file} is dated ahead, ${new Date(writtenAt).toISOString()}; compare the clocks`);
  }
  if (ageMs <= maxAgeMs) return;
  throw invalid(
    `${file} was written at ${new Date(writtenAt).toISOString()}, which is too long ago; save a new snapshot, or raise --max-backup-age`,
  );
}

function invalid(message: string): KmsError {
  return new KmsError("CONFIG_INVALID", `--backup: ${message}`);
}
