// Describes a step before it is taken: what it does or waits for, and until when.
import type { Open } from "./run-steps.js";

export interface StepDescription {
  readonly detail: string;
  /** ms since the epoch. */
  readonly until: number | undefined;
}

/** @param confirmUntil until when nodes may publish an active KEK, in ms since the epoch; undefined if nobody waits */
export function describeStep(position: Open, confirmUntil: number | undefined): StepDescription {
  const at = (detail: string, until?: number): StepDescription => ({ detail, until });
  switch (position.step) {
    case "preflight":
      return at("checks that tokens, nodes, etcd and the API server answer");
    case "create":
      return at(`makes the KEK that replaces "${position.from.label}"`);
    case "wait":
      return at(`waits for every token and node to have "${position.to.label}"`, position.to.activation);
    case "activate":
      return at(`waits for the activation of "${position.to.label}"`, position.to.activation);
    case "confirm":
      return at(`waits for every node to publish "${position.to.label}"`, confirmUntil);
    case "migrate":
      return at(`has kube-apiserver rewrite every object that is not under "${position.to.label}"`);
    case "verify":
      return at("decrypts every object in etcd with the HSM");
    case "retire":
      return at(
        `destroys "${position.kek.label}" if nothing needs it`,
        position.notBefore > Date.now() ? position.notBefore : undefined,
      );
  }
}
