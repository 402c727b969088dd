// What all steps of a drill use: the operator's order, the place where they run, and their findings.
import type { Operator } from "../admin/operator.js";
import type { Verified } from "../admin/verify-stored.js";
import type { Settings } from "../config/settings.js";
import type { DrillReport, DrillStep } from "../evidence/drill-report.js";
import type { Configured } from "./live.js";
import type { PrivateFolder } from "./private-folder.js";
import type { SendPin } from "./private-plugin.js";
import type { ProcessGroup } from "./private-process.js";
import type { ProgramPaths, Programs } from "./programs.js";
import type { StepClock } from "./step-clock.js";
import type { SnapshotContent } from "./token-steps.js";

export interface DrillOptions {
  /** The restored token or the clone. */
  readonly configured: Configured;
  /** The plugin of the live cluster; undefined if this machine has none. */
  readonly live: Configured | undefined;
  /** Whether a token may be a live one, of which KEKs are read only. */
  readonly allowsLiveToken: boolean;
  readonly snapshot: { readonly file: string; readonly skipHashCheck: boolean };
  /** kube-apiserver's `--etcd-prefix`. */
  readonly prefix: string;
  readonly programs: ProgramPaths;
  /** How long to wait for the private API server, in ms. */
  readonly readyMs: number;
  readonly operator: Operator;
  readonly sendPin: SendPin;
  /** Interrupts the drill. */
  readonly signal: AbortSignal;
  readonly onStep: (step: DrillStep) => void;
}

/** What the steps have found. */
export interface Facts {
  snapshot: Omit<DrillReport["snapshot"], "revision" | "objects">;
  content?: SnapshotContent;
  keks: DrillReport["keks"];
  verified?: Verified;
  listed: DrillReport["listed"];
  isolation: DrillReport["isolation"];
}

/** Where the steps run. */
export interface Stage {
  readonly clock: StepClock;
  readonly processes: ProcessGroup;
  readonly folder: PrivateFolder;
  readonly programs: Programs;
  /** The settings with which the tokens are opened. */
  readonly settings: Settings;
  readonly facts: Facts;
}
