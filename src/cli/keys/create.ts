// `kms-pkcs11 keys create`: makes the first generation of the KEK inside the HSM.
import type { Command } from "commander";
import type { Settings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import type { KekRecord } from "../../hsm/port.js";
import { labelOf } from "../../provider/kek-label.js";
import { schedulePolicy } from "../../compose/provider.js";
import { warnOfUnknownUser } from "../../admin/acting-user.js";
import { cloneAdvice, waitForClones } from "../../admin/rollout.js";
import { audited, type Begin } from "../../admin/operator-audit.js";
import { durationOf } from "../duration-option.js";
import { nextStep, printResult } from "../next-step.js";
import type { Terminal } from "../output.js";
import { formatTable } from "../table.js";
import { operatorAt } from "../operator.js";
import { keyNotices, untilInterrupted } from "../../admin/interrupts.js";
import type { Operator } from "../../admin/operator.js";
import { makeOrAwaitGeneration, type VendorWait } from "../../admin/vendor-made-kek.js";
import { checkReadiness, isReady, readinessRows, type Readiness } from "../../admin/readiness.js";
import {
  addKeyOptions,
  addMechanismOption,
  administratorSettings,
  type SettingsOptions,
} from "../settings-options.js";
import { requireAll, withTokens, type Token } from "../../admin/command-tokens.js";
import type { KeysCreateOutput } from "../output-schema/keys.js";

interface CreateOptions extends SettingsOptions {
  readonly wait?: true;
  readonly timeout: string;
}

interface Created {
  readonly made: KekRecord;
  /** The other configured tokens. */
  readonly tokens: readonly Readiness[];
}

const HELP = `
A key never leaves the HSM that made it. With several tokens it is made on the first, and you clone it to the others with
the vendor's tools (HA group, cloning domain, backup and restore).

If the token cannot generate secret keys through PKCS#11 (TPM 2.0), the command prints the vendor's command with the label
that the KEK needs, and exits with 1. With --wait it waits until the token shows that KEK.

Example:
  kms-pkcs11 keys create --key 'pkcs11:token=kms;object=kms-kek?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/secrets/pin'`;

/** Adds `keys create`. */
export function addKeysCreateCommand(keys: Command, terminal: Terminal): void {
  addMechanismOption(addKeyOptions(keys.command("create")))
    .description("make the first KEK inside the HSM, active at once; refuses when one exists")
    .option(
      "--wait",
      "wait until the other tokens of the configuration hold the clone, or until the token shows the KEK that you make with the vendor's tool; exit 1 if they do not in time",
    )
    .option("--timeout <duration>", "how long --wait waits", "10m")
    .addHelpText("after", HELP)
    .action(async (_local, command: Command) => {
      await createAndReport(command.optsWithGlobals<CreateOptions>(), terminal);
    });
}

async function createAndReport(options: CreateOptions, terminal: Terminal): Promise<void> {
  const timeoutMs = durationOf("--timeout", options.timeout, "10m");
  const settings = administratorSettings(options);
  const operator = operatorAt(terminal);
  warnOfUnknownUser(settings, operator);
  const until = Date.now() + timeoutMs;
  const created = await withTokens(settings, operator, async (tokens) => {
    const { made, tokens: others } = await audited(
      settings,
      operator,
      { operation: "keys create" },
      (begin) => {
        const order = { settings, tokens, begin, operator };
        if (options.wait !== true) return create({ ...order, wait: undefined });
        return untilInterrupted(keyNotices(operator), (signal) =>
          create({ ...order, wait: { until, signal } }),
        );
      },
      ({ made: { keyId, label } }) => ({ keyId, details: { label } }),
    );
    if (options.wait !== true || others.every(isReady)) return { made, tokens: others };
    terminal.err(cloneAdvice(made, tokens));
    return { made, tokens: await waitForClones(made, tokens.slice(1), until, operator) };
  });
  report(created, options, terminal);
}

interface Order {
  readonly settings: Settings;
  readonly tokens: readonly Token[];
  readonly begin: Begin;
  /** How to wait for a KEK that the operator makes; undefined if the command does not wait. */
  readonly wait: VendorWait | undefined;
  readonly operator: Operator;
}

async function create({ settings, tokens, begin, wait, operator }: Order): Promise<Created> {
  requireAll(tokens, "nothing was created");
  for (const { name, records } of tokens) {
    const [existing] = records ?? [];
    if (existing === undefined) continue;
    throw new KmsError(
      "TOKEN_REFUSED",
      `${tokens.length === 1 ? "the token" : name} holds "${existing.label}" (key_id ${existing.keyId}) already; nothing was created; to make the next KEK, run 'kms-pkcs11 keys rotate'`,
    );
  }
  const [preferred, ...others] = tokens;
  if (preferred === undefined) throw new KmsError("INTERNAL", "a configuration without a token");
  if (wait?.signal.aborted === true) throw new KmsError("CANCELLED", "interrupted; nothing was created");
  const label = labelOf(settings.objectName, Date.now());
  await begin({ details: { label } });
  const generation = {
    policy: schedulePolicy(settings),
    label,
    mechanism: settings.mechanism,
    isRival: () => true,
    unusedUntil: undefined,
  };
  const { hsm } = preferred;
  const token = settings.tokens[0];
  const { made } = await makeOrAwaitGeneration({ hsm, token, generation, wait, operator });
  return { made, tokens: await checkReadiness(made, others, []) };
}

function report({ made, tokens }: Created, { wait, output }: CreateOptions, terminal: Terminal): void {
  const lacking = tokens.filter((one) => !isReady(one)).map(({ name }) => name);
  const change = { did: "create", lacking } as const;
  const failed = wait === true && lacking.length > 0;
  const json = { created: made, tokens } satisfies Omit<KeysCreateOutput, "next">;
  const text = describe(made, tokens);
  printResult({ json, text, change: failed ? undefined : change }, output, terminal);
  if (failed) throw new KmsError("KEY_MISSING", nextStep(change));
}

function describe(made: KekRecord, tokens: readonly Readiness[]): string {
  const rows = [
    ["key_id", made.keyId],
    ["label", made.label],
    ["CKA_ID", made.ckaId === "" ? "none" : made.ckaId],
    ["kind", made.kind],
    ...made.remarks.map((remark) => ["remark", remark]),
    ...readinessRows(tokens).map(([state, name, detail]) => [
      "clone",
      `${name ?? ""}: ${state ?? ""}, ${detail ?? ""}`,
    ]),
  ];
  return `KEK created, active now\n${formatTable(["", ""], rows).trimStart()}`;
}
