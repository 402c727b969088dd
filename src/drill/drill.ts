// Rehearses disaster recovery on a copy: a snapshot and a restored token or a clone, then a private etcd, plugin and API server
// where their programs are available. Knows no terminal. It opens nothing of the live cluster (live.ts), and removes everything
// private when it ends.
import { statSync } from "node:fs";
import { hostname } from "node:os";
import { resolve } from "node:path";
import { withTokens, type Token } from "../admin/command-tokens.js";
import { withSnapshot, type EtcdSource } from "../admin/etcd-source.js";
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import type { DrillReport } from "../evidence/drill-report.js";
import { unreadable } from "../files/file-error.js";
import { VERSION } from "../version.js";
import { rehearseCluster } from "./cluster-steps.js";
import { compareTokens, requireApart, type ComparedTokens } from "./live.js";
import { notProven } from "./not-proven.js";
import { PrivateFolder, removeLeftovers } from "./private-folder.js";
import { ProcessGroup } from "./private-process.js";
import { findPrograms } from "./programs.js";
import type { DrillOptions, Facts, Stage } from "./stage.js";
import { StepClock } from "./step-clock.js";
import { proveKeks } from "./prove-keks.js";
import { countSnapshot, openedTokens, verifyAll, type SnapshotContent } from "./token-steps.js";

export interface DrillResult {
  readonly report: DrillReport;
  /** Why a step did not finish. */
  readonly error: KmsError | undefined;
}

/**
 * Runs a drill. What a step finds, or why it fails, is in the result.
 * @throws KmsError CONFIG_INVALID if nothing was rehearsed, such as when the configuration may be the live one
 */
export async function runDrill(options: DrillOptions): Promise<DrillResult> {
  const { configured, live, operator, signal } = options;
  const startedAt = new Date();
  await requireApart(configured, live);
  const snapshot = snapshotFile(options.snapshot.file);
  for (const line of await removeLeftovers()) operator.notify(line);
  const folder = await PrivateFolder.create();
  const processes = new ProcessGroup(signal);
  try {
    const programs = await findPrograms(options.programs, folder.path);
    const compared = await comparedTokens(options);
    const facts: Facts = { snapshot, keks: [], listed: [], isolation: null };
    const clock = new StepClock(signal, options.onStep);
    const settings = settingsFor(options, compared);
    const stage = { clock, processes, folder, programs, settings, facts };
    await rehearse(options, compared, stage);
    return { report: reportOf(stage, compared, startedAt), error: clock.error };
  } finally {
    await processes.stop();
    folder.remove();
  }
}

function snapshotFile(file: string): Facts["snapshot"] {
  try {
    const { size, mtime } = statSync(file);
    return { file: resolve(file), bytes: size, modifiedAt: mtime.toISOString(), sha256: null };
  } catch (error) {
    throw unreadable("--snapshot", file, error);
  }
}

/** Returns why the tokens could not be compared. @throws KmsError if the drill may not use them */
async function comparedTokens(options: DrillOptions): Promise<ComparedTokens | KmsError> {
  const { configured, live, allowsLiveToken, operator } = options;
  try {
    return await compareTokens(configured.settings, live, allowsLiveToken, operator);
  } catch (error) {
    const known = KmsError.from(error);
    if (known.code === "CONFIG_INVALID") throw known;
    return known;
  }
}

/** A token that may be a live one follows the live plugin's record of refused PINs. */
function settingsFor({ configured, live }: DrillOptions, compared: ComparedTokens | KmsError): Settings {
  const stateDir = live?.settings.stateDir;
  const mayBeLive = !(compared instanceof KmsError) && compared.mayBeLive;
  return mayBeLive && stateDir !== undefined ? { ...configured.settings, stateDir } : configured.settings;
}

async function rehearse(
  options: DrillOptions,
  compared: ComparedTokens | KmsError,
  stage: Stage,
): Promise<void> {
  const { snapshot, prefix, operator } = options;
  const { clock, settings, facts } = stage;
  const openTokens = async (use: (tokens: readonly Token[]) => Promise<void>): Promise<void> => {
    if (compared instanceof KmsError) throw compared;
    await withTokens(settings, operator, use);
  };
  const withContent = (use: (opened: Opened) => Promise<void>): Promise<void> =>
    withSnapshot(snapshot.file, snapshot, operator, async (source) => {
      const content = await countSnapshot(source, prefix, operator);
      await use({ source, content });
    });
  await clock.open("snapshot", withContent, describeSnapshot, async ({ source, content }) => {
    facts.content = content;
    const { kind } = source.source;
    facts.snapshot = { ...facts.snapshot, sha256: kind === "snapshot" ? source.source.sha256 : null };
    await clock.open("token", openTokens, openedTokens, async (tokens) => {
      const ports = { tokens, store: source.store(prefix), settings, operator };
      const proven = await clock.run("keks", () => proveKeks(content.usages, ports));
      facts.keks = [...(proven?.keks ?? [])];
      const all = await clock.run("objects", () => verifyAll(source, prefix, tokens, settings, operator));
      if (all !== undefined) facts.verified = all.verified;
    });
  });
  // The tokens are closed: some libraries admit one process at a time.
  if (clock.error === undefined) await rehearseCluster(options, stage);
}

interface Opened {
  readonly source: EtcdSource;
  readonly content: SnapshotContent;
}

function describeSnapshot({ content }: Opened): { readonly detail: string } {
  const { objects, revision } = content;
  return { detail: `${objects} objects at revision ${revision}` };
}

function reportOf(
  { clock, facts, programs }: Stage,
  compared: ComparedTokens | KmsError,
  startedAt: Date,
): DrillReport {
  const { snapshot, content, keks, verified, listed, isolation } = facts;
  const finishedAt = new Date();
  const steps = clock.results;
  return {
    apiVersion: "kms-pkcs11.dev/v1",
    kind: "DrillReport",
    toolVersion: VERSION,
    host: hostname(),
    startedAt: startedAt.toISOString(),
    finishedAt: finishedAt.toISOString(),
    seconds: (finishedAt.getTime() - startedAt.getTime()) / 1000,
    passed: clock.error === undefined && steps.every(({ outcome }) => outcome !== "failed"),
    complete: steps.every(({ outcome }) => outcome !== "not rehearsed"),
    snapshot: { ...snapshot, revision: content?.revision ?? null, objects: content?.objects ?? null },
    tokens: compared instanceof KmsError ? [] : [...compared.tokens],
    keks,
    resources: (verified?.resources ?? []).map((one) => ({ ...one })),
    failures: (verified?.failures ?? []).map((one) => ({ ...one, keys: [...one.keys] })),
    notProven: notProven(content?.usages ?? [], keks),
    listed,
    programs: Object.values(programs),
    isolation,
    steps,
  };
}
