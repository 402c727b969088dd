// The options that say when a KEK that a command makes becomes active.
import { Option, type Command } from "commander";
import { KmsError } from "../../errors.js";
import { parseTime } from "../../provider/kek-label.js";
import { DEFAULT_DELAY_MS } from "../../provider/rotation.js";
import { durationOf } from "../duration-option.js";

export interface ActivationOptions {
  readonly activateIn?: string;
  readonly activateAt?: string;
}

/** Adds --activate-in and --activate-at. */
export function addActivationOptions(command: Command): Command {
  return command
    .option("--activate-in <duration>", "how long from now it becomes active, such as 10m (the default)")
    .addOption(
      new Option("--activate-at <time>", "when it becomes active, such as 2026-12-01T10:00:00Z").conflicts(
        "activateIn",
      ),
    );
}

/** Returns the activation in ms since the epoch. @param now ms since the epoch @throws KmsError CONFIG_INVALID */
export function activationOf({ activateIn, activateAt }: ActivationOptions, now: number): number {
  if (activateAt !== undefined) {
    const at = parseTime(activateAt);
    if (at !== undefined) return at;
    throw new KmsError(
      "CONFIG_INVALID",
      "--activate-at: give an existing date and time with its zone, such as 2026-12-01T10:00:00Z",
    );
  }
  if (activateIn === undefined) return now + DEFAULT_DELAY_MS;
  return now + durationOf("--activate-in", activateIn, "10m or 1h30m");
}
