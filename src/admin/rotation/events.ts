// What a rotation reports while it runs: one event when a step begins and one when it ends. Knows no terminal.
import type { Step } from "./position.js";

export interface RotationEvent {
  /** ISO 8601. */
  readonly time: string;
  readonly step: Step;
  readonly event: "begun" | "done" | "postponed";
  /** Of the KEK that the step is about; null if it does not exist yet. */
  readonly keyId: string | null;
  /** What the step does or waits for, or its result. */
  readonly detail: string;
  /** Latest end of a wait, ISO 8601; null for a step that does not wait. */
  readonly until: string | null;
  /** The step that follows; null after the last. */
  readonly next: Step | null;
}

export type Report = (event: RotationEvent) => void;
