// What the tests of `drill` have in common: a plugin, a snapshot of an etcd with objects under its KEK, a copy of its token as
// the restored one, and drills that find none of the programs of a cluster.

import { readdirSync } from "node:fs";

import { afterAll, afterEach, beforeAll, expect } from "vitest";

import type { DrillReport } from "../../../src/evidence/drill-report.js";
import { runCommand } from "../../support/command.js";
import { DrillStage, saveSecrets } from "../../support/drill-stage.js";
import { usePlugin, type PluginFixture } from "../../support/plugin-fixture.js";
import type { CommandResult } from "../../support/plugin-process.js";
import { newSeed, type StoredSeed } from "../../support/stored-secrets.js";

export class StockedDrill {
  readonly kms: PluginFixture;
  #made: { readonly stage: DrillStage; readonly seed: StoredSeed } | undefined;

  constructor(kms: PluginFixture) {
    this.kms = kms;
  }

  get #parts(): { readonly stage: DrillStage; readonly seed: StoredSeed } {
    if (this.#made === undefined) throw new Error("useDrill: available only inside a test");
    return this.#made;
  }

  get stage(): DrillStage {
    return this.#parts.stage;
  }

  /** A seed under the KEK that the restored token holds. */
  get seed(): StoredSeed {
    return this.#parts.seed;
  }

  async make(): Promise<void> {
    const stage = new DrillStage(this.kms.token);
    const seed = await newSeed(this.kms.plugin.socket);
    await saveSecrets([seed], stage.snapshot, [
      ["/registry/configmaps/one/clear", Buffer.from('{"kind":"ConfigMap"}')],
    ]);
    this.#made = { stage, seed };
  }

  /** Runs a drill that finds none of the programs. */
  run(...more: string[]): Promise<CommandResult> {
    return runCommand(this.stage.args(...more), { ...this.stage.env, PATH: "/none" });
  }

  report(): DrillReport {
    return this.stage.report() as DrillReport;
  }

  /** Returns the outcome of each step of the latest report. */
  outcomes(): Record<string, string> {
    return Object.fromEntries(this.report().steps.map(({ step, outcome }) => [step, outcome]));
  }

  /** Requires that a drill is refused with this message, and writes no report. */
  async refuses(message: string, ...more: string[]): Promise<void> {
    const before = this.stage.reportFiles();
    const { code, stderr } = await this.run(...more);
    expect([code, stderr]).toEqual([2, expect.stringContaining(message) as string]);
    expect(this.stage.reportFiles()).toEqual(before);
  }
}

/** Prepares drills for the tests of a file. After each test, the drill must have removed what is private. */
export function useDrill(): StockedDrill {
  const drill = new StockedDrill(usePlugin({ keys: { refreshInterval: "1s" } }));
  beforeAll(() => drill.make());
  afterEach(() => {
    expect(readdirSync(drill.stage.temporary)).toEqual([]);
  });
  afterAll(() => {
    drill.stage.remove();
  });
  return drill;
}
