// `kms-pkcs11 keys adopt`: gives a key that another tool made, with the plain label, a label with an activation
// instant, so that rotations can follow it. Its value, CKA_ID and key_id do not change.
import type { Command } from "commander";
import type { Settings } from "../../config/settings.js";
import { KmsError } from "../../errors.js";
import type { KekRecord } from "../../hsm/port.js";
import { activeAt, readSchedule } from "../../provider/generations.js";
import { labelOf } from "../../provider/kek-label.js";
import { schedulePolicy } from "../../compose/provider.js";
import { parseKeyReference, type KeyReference } from "../../admin/key-reference.js";
import {
  findNamedKey,
  isSameKek,
  recordOn,
  viewKeyring,
  type KeyringView,
  type ViewedKey,
} from "../../admin/keyring-view.js";
import { audited, type Begin } from "../../admin/operator-audit.js";
import { formatJson, formatTable, type Terminal } from "../output.js";
import { operatorAt } from "../operator.js";
import { addKeyOptions, settingsFrom, type SettingsOptions } from "../settings-options.js";
import { withTokens, type Token } from "../../admin/command-tokens.js";
import {
  changeEvent,
  changeRows,
  changeTokens,
  requireChanged,
  type Changes,
} from "../../admin/token-changes.js";

/** An adopted key counts as active since an hour ago, in ms: also for a node whose clock is behind. */
const BEFORE_NOW_MS = 3_600_000;

interface Adopted {
  readonly keyId: string;
  readonly label: string;
  readonly changes: Changes;
}

export function addKeysAdoptCommand(keys: Command, terminal: Terminal): void {
  addKeyOptions(keys.command("adopt"))
    .description(
      "give a key made by another tool an activation label, where the tokens allow it; its key_id stays",
    )
    .argument("<key_id>", "the key_id, its beginning, a CKA_ID, @active or @retired")
    .addHelpText(
      "after",
      `
Adopting is not needed to rotate: a key with the plain label is superseded by any that has an instant. It never
changes which key is active. With several tokens it relabels the key on each that holds it; repeat the command if a token
failed.

Example:
  kms-pkcs11 keys adopt 0193...c1 --config /etc/kms-pkcs11/config.yaml`,
    )
    .action(async (keyId: string, _local, command: Command) => {
      const options = command.optsWithGlobals<SettingsOptions>();
      const reference = parseKeyReference("<key_id>", keyId);
      const settings = settingsFrom(options, false);
      const operator = operatorAt(terminal);
      const adopted = await audited(
        settings,
        operator,
        { operation: "keys adopt", keyId },
        (begin) => withTokens(settings, operator, (tokens) => adopt(settings, tokens, reference, begin)),
        (done) => {
          const { outcome, details } = changeEvent(done.changes);
          return { keyId: done.keyId, outcome, details: { label: done.label, ...details } };
        },
      );
      const { changes, ...result } = adopted;
      if (options.output === "json") terminal.out(formatJson({ adopted: result, tokens: changes.tokens }));
      else {
        const rows =
          changes.tokens.length > 1 ? `\n${formatTable(["", "", ""], changeRows(changes)).trimStart()}` : "";
        const isRepeat = changes.tokens.every(({ outcome }) => outcome === "not needed");
        const did = isRepeat ? "adopted already as" : "adopted as";
        terminal.out(`${did} "${adopted.label}" (key_id ${adopted.keyId})${rows}`);
      }
      requireChanged(changes, "adopted");
    });
}

async function adopt(
  settings: Settings,
  tokens: readonly Token[],
  reference: KeyReference,
  begin: Begin,
): Promise<Adopted> {
  const now = Date.now();
  const policy = schedulePolicy(settings);
  const view = viewKeyring(tokens, policy, now);
  const key = findNamedKey("<key_id>", reference, view, tokens);
  if (key === undefined || key.state === "refused") throw notFound(key, tokens, reference);
  const { record } = key;
  const labels = new Set(tokens.flatMap((token) => recordOn(token, record)?.label ?? []));
  // A label that an earlier run gave on one token is repeated on the others.
  const [given, another] = [...labels].filter((label) => label !== settings.objectName);
  if (given !== undefined && another !== undefined) {
    throw new KmsError("TOKEN_REFUSED", `it has several labels: ${[...labels].join(", ")}; give it one`);
  }
  requireNotCopied(tokens, record, settings.objectName);
  const label = given ?? newLabel(settings, view, record, now);
  await begin({ keyId: record.keyId, details: { label } });
  const changes = await changeTokens(tokens, record, async ({ hsm }, own) => {
    if (own.label === label) return false;
    await hsm.relabel(own.keyId, label);
    return true;
  });
  return { keyId: record.keyId, label, changes };
}

/**
 * Requires that no token holds the KEK under both labels. Where a label cannot be changed, the token host copies the key and
 * destroys the original, and was killed in between. It must not destroy one of the two now: it finds objects by key_id,
 * which both share.
 * @throws KmsError TOKEN_REFUSED that says how to remove the original
 */
function requireNotCopied(tokens: readonly Token[], record: KekRecord, objectName: string): void {
  for (const { name, records = [] } of tokens) {
    const labels = records.filter((own) => isSameKek(own, record)).map(({ label }) => label);
    const copy = labels.find((label) => label !== objectName);
    if (copy === undefined || !labels.includes(objectName)) continue;
    const id = record.ckaId === "" ? "" : ` and CKA_ID ${record.ckaId}`;
    throw new KmsError(
      "TOKEN_REFUSED",
      `${name} holds this KEK twice, as "${objectName}" and as "${copy}", because adopting it was interrupted; both have the ` +
        `same value. Remove the object with label "${objectName}"${id} with the vendor's tool, such as 'pkcs11-tool ` +
        `--delete-object --type secrkey --label ${objectName}${record.ckaId === "" ? "" : ` --id ${record.ckaId}`}'; ` +
        "'keys destroy' would destroy both",
    );
  }
}

function notFound(
  refused: ViewedKey | undefined,
  tokens: readonly Token[],
  { text }: KeyReference,
): KmsError {
  const failure = tokens.find((token) => token.failure !== undefined)?.failure;
  if (failure !== undefined) return failure;
  const why = refused === undefined ? "no token of the configuration holds it" : refused.findings.join("; ");
  return new KmsError("KEY_UNKNOWN", `no usable KEK has key_id ${text}: ${why}`);
}

/**
 * Returns a label with an instant before now and before that of every other generation.
 * @throws KmsError TOKEN_REFUSED when that would change which KEK is active, or make the KEK refused
 */
function newLabel(settings: Settings, { schedule }: KeyringView, record: KekRecord, now: number): string {
  const finite = schedule.generations.map(({ activation }) => activation).filter(Number.isFinite);
  const label = labelOf(
    settings.objectName,
    Math.min(now - BEFORE_NOW_MS, ...finite.map((activation) => activation - 1000)),
  );
  const policy = schedulePolicy(settings);
  const records = schedule.generations.map((one) =>
    one.record === record ? { ...record, label } : one.record,
  );
  const before = activeAt(schedule, policy, now).record.keyId;
  const after = readSchedule(records, policy);
  if (after.refused.length > 0) {
    throw new KmsError(
      "TOKEN_REFUSED",
      `adopting it would take it out of keys.allowUnprotected, which names "${record.label}"; rotate to a protected key instead`,
    );
  }
  if (activeAt(after, policy, now).record.keyId === before) return label;
  throw new KmsError(
    "TOKEN_REFUSED",
    `adopting it would make it active instead of ${before}; adopt that one first`,
  );
}
