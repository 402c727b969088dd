// `kms-pkcs11 keys rotate`: makes the next generation of the KEK inside the HSM, to become active later.
import type { Command } from "commander";
import { parseDuration } from "../config/duration.js";
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import type { KekRecord } from "../hsm/wire.js";
import { readSchedule } from "../provider/generations.js";
import { DEFAULT_DELAY_MS, planRotation, type RotationPlan } from "../provider/rotation.js";
import { schedulePolicy } from "../serve.js";
import { makeGeneration } from "./new-generation.js";
import { audited } from "./operator-audit.js";
import { formatJson, formatTable, type Terminal } from "./output.js";
import { addKeyOptions, settingsFrom, type SettingsOptions } from "./settings-options.js";
import { withToken } from "./token.js";

interface RotateOptions extends SettingsOptions {
  readonly activateIn?: string;
  readonly activateAt?: string;
  readonly dryRun?: true;
}

interface Rotated {
  readonly plan: RotationPlan;
  /** Undefined after a dry run. */
  readonly made: KekRecord | undefined;
}

export function addKeysRotateCommand(keys: Command, terminal: Terminal): void {
  addKeyOptions(keys.command("rotate"))
    .description(
      "make the next KEK inside the HSM; it is standby until its activation instant, then active on every node",
    )
    .option("--activate-in <duration>", "how long from now it becomes active, such as 10m (the default)")
    .option("--activate-at <time>", "when it becomes active, such as 2026-12-01T10:00:00Z")
    .option("--dry-run", "say what would be made, and make nothing")
    .addHelpText(
      "after",
      "\nExample:\n  kms-pkcs11 keys rotate --config /etc/kms-pkcs11/config.yaml --activate-in 30m",
    )
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<RotateOptions>();
      const now = Date.now();
      const activation = activationOf(options, now);
      const settings = settingsFrom(options, false);
      const dryRun = options.dryRun === true;
      const { plan, made } = await audited(
        settings,
        { operation: dryRun ? "keys rotate --dry-run" : "keys rotate" },
        () => rotate(settings, now, activation, dryRun),
        (rotated) => ({
          ...(rotated.made !== undefined && { keyId: rotated.made.keyId }),
          details: { label: rotated.plan.label, from: rotated.plan.from.record.keyId },
        }),
      );
      for (const warning of plan.warnings) terminal.err(`warning: ${warning}`);
      terminal.out(options.output === "json" ? formatJson(asJson(plan, made)) : describe(plan, made));
    });
}

/** @throws KmsError CONFIG_INVALID */
function activationOf({ activateIn, activateAt }: RotateOptions, now: number): number {
  if (activateIn !== undefined && activateAt !== undefined) {
    throw new KmsError("CONFIG_INVALID", "--activate-in and --activate-at: give one of them");
  }
  if (activateAt !== undefined) {
    const at = /Z$|[+-]\d{2}:\d{2}$/.test(activateAt) ? Date.parse(activateAt) : Number.NaN;
    if (Number.isNaN(at))
      throw new KmsError(
        "CONFIG_INVALID",
        "--activate-at: a time with its zone, such as 2026-12-01T10:00:00Z",
      );
    return at;
  }
  const delay = activateIn === undefined ? DEFAULT_DELAY_MS : parseDuration(activateIn);
  if (delay === undefined)
    throw new KmsError("CONFIG_INVALID", "--activate-in: a duration such as 10m or 1h30m");
  return now + delay;
}

async function rotate(
  settings: Settings,
  now: number,
  activation: number,
  dryRun: boolean,
): Promise<Rotated> {
  return withToken(settings, async (hsm) => {
    const policy = schedulePolicy(settings);
    const plan = planRotation(readSchedule(await hsm.listKeks(), policy), policy, now, activation);
    return { plan, made: dryRun ? undefined : await makeGeneration(hsm, policy, plan.label) };
  });
}

function asJson(plan: RotationPlan, made: KekRecord | undefined): object {
  return {
    label: plan.label,
    activation: new Date(plan.activation).toISOString(),
    from: plan.from.record.keyId,
    created: made ?? null,
  };
}

function describe(plan: RotationPlan, made: KekRecord | undefined): string {
  const rows = [
    ["key_id", made?.keyId ?? "not made: dry run"],
    ["label", plan.label],
    ["active from", new Date(plan.activation).toISOString()],
    ["until then", plan.from.record.keyId],
  ];
  return formatTable(["", ""], rows).trimStart();
}
