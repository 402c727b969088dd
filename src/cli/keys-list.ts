// `kms-pkcs11 keys list`: the generations of the KEK as the token shows them now.
import type { Command } from "commander";
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import { activeAt, readSchedule, stateOf, type Generation } from "../provider/generations.js";
import { schedulePolicy } from "../serve.js";
import { EXIT_NO } from "./exit-code.js";
import { formatJson, formatTable, type Terminal } from "./output.js";
import { addKeyOptions, settingsFrom, type SettingsOptions } from "./settings-options.js";
import { withToken } from "./token.js";

interface ListedKey {
  readonly state: string;
  readonly keyId: string;
  readonly label: string;
  readonly ckaId: string;
  readonly kind: string;
  /** ISO 8601; null for a key without an instant in its label. */
  readonly activation: string | null;
  readonly findings: readonly string[];
}

interface Listing {
  readonly keys: readonly ListedKey[];
  /** Why no key is active; null when one is. */
  readonly problem: string | null;
}

export function addKeysListCommand(keys: Command, terminal: Terminal): void {
  addKeyOptions(keys.command("list"))
    .description("list the generations of the KEK; exit 0 if one is active, 1 if none is")
    .addHelpText(
      "after",
      `
Example:
  kms-pkcs11 keys list --config /etc/kms-pkcs11/config.yaml --output json`,
    )
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<SettingsOptions>();
      const listing = await list(settingsFrom(options, false), Date.now());
      if (options.output === "json") terminal.out(formatJson(listing));
      else terminal.out(describe(listing));
      if (listing.problem !== null) process.exitCode = EXIT_NO;
    });
}

async function list(settings: Settings, now: number): Promise<Listing> {
  const policy = schedulePolicy(settings);
  const schedule = readSchedule(await withToken(settings, (hsm) => hsm.listKeks()), policy);
  let active: Generation | undefined;
  let problem: string | null = null;
  try {
    active = activeAt(schedule, policy, now);
  } catch (error) {
    problem = KmsError.from(error).message;
  }
  const usable = schedule.generations.map((generation) => ({
    ...listed(generation.record),
    state: stateOf(generation, active, now),
    activation: Number.isFinite(generation.activation) ? new Date(generation.activation).toISOString() : null,
  }));
  const refused = schedule.refused.map(({ record, reason }) => {
    const entry = listed(record);
    return { ...entry, state: "refused", activation: null, findings: [reason, ...entry.findings] };
  });
  return { keys: [...usable, ...refused], problem };
}

function listed(
  record: Generation["record"],
): Pick<ListedKey, "keyId" | "label" | "ckaId" | "kind" | "findings"> {
  const { keyId, label, ckaId, kind, unprotected, remarks } = record;
  return { keyId, label, ckaId, kind, findings: [...unprotected, ...remarks] };
}

function describe({ keys, problem }: Listing): string {
  const rows = keys.map((key) => [
    key.state,
    key.activation ?? "always",
    key.kind,
    key.keyId,
    key.label,
    key.findings.length === 0 ? "none" : key.findings.join("; "),
  ]);
  const table =
    keys.length === 0
      ? []
      : [formatTable(["STATE", "ACTIVATION", "KIND", "KEY_ID", "LABEL", "FINDINGS"], rows)];
  return [...table, ...(problem === null ? [] : [problem])].join("\n");
}
