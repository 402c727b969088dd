// `kms-pkcs11 keys destroy`: removes a generation of the KEK from every token that holds it, for good. Never the
// active one; and only where something shows that nobody needs it.
import { createInterface } from "node:readline/promises";
import type { Command } from "commander";
import type { Settings } from "../config/settings.js";
import { KmsError } from "../errors.js";
import type { Schedule } from "../provider/generations.js";
import { schedulePolicy } from "../serve.js";
import { parseKeyReference, type KeyReference } from "./key-reference.js";
import { findNamedKey, viewKeyring, type KeyringView, type ViewedKey } from "./keyring-view.js";
import { requireLeft, requireNeverUsed } from "./never-used.js";
import { parseNodes } from "./node-client.js";
import { audited } from "./operator-audit.js";
import { formatJson, formatTable, type Terminal } from "./output.js";
import { addDisuseOptions, requireDisuse, requireKeyIds, type DisuseOptions } from "./proof-of-disuse.js";
import { addKeyOptions, settingsFrom, type SettingsOptions } from "./settings-options.js";
import { withTokens, type Token } from "./token.js";
import { changeEvent, changeRows, destroyOn, requireChanged, type Changes } from "./token-changes.js";

interface DestroyOptions extends SettingsOptions, DisuseOptions {
  readonly nodes?: string;
}

export function addKeysDestroyCommand(keys: Command, terminal: Terminal): void {
  addDisuseOptions(addKeyOptions(keys.command("destroy")))
    .description(
      "destroy a standby or retired KEK on every token; what is encrypted under it can then never be read again",
    )
    .argument("<key_id>", "the key_id, its beginning, a CKA_ID, @standby or @retired")
    .option(
      "--nodes <url,...>",
      "every node's plugin, such as http://127.0.0.1:8090: refuses if one still uses the KEK; a proof for a standby KEK",
    )
    .addHelpText(
      "after",
      `
The active KEK is refused. Any other one wants a proof that nothing is under it, or its key_id written out. On a
terminal the key_id has to be typed as well. With several tokens, a repeat finishes what failed on one of them.

A standby KEK has protected nothing if no node has activated it. This machine's clock does not show that, a node's may
be ahead: name every node by --nodes, and it goes without a proof until 10 s before its instant.

A look at etcd shows what is under a retired KEK, not what may yet come under it: a node whose token lacks the successor,
or whose plugin hangs, goes on encrypting under it. A proof from etcd therefore wants --nodes with every node as well,
each of which has to name another active KEK; or, where that was seen in another way, --every-node-has-left KEY_ID.

Example:
  kms-pkcs11 etcd usage --report usage.json
  kms-pkcs11 keys destroy 0193...c1 --usage-report usage.json --config /etc/kms-pkcs11/config.yaml \\
    --nodes http://127.0.0.1:18090,http://127.0.0.1:28090,http://127.0.0.1:38090`,
    )
    .action(async (keyId: string, _local, command: Command) => {
      const options = command.optsWithGlobals<DestroyOptions>();
      const reference = parseKeyReference("<key_id>", keyId);
      requireKeyIds(options);
      const nodes = options.nodes === undefined ? [] : parseNodes(options.nodes);
      const settings = settingsFrom(options, false);
      const destroyed = await audited(
        settings,
        { operation: "keys destroy", keyId },
        () => withTokens(settings, (tokens) => destroy(settings, tokens, reference, nodes, options)),
        ({ key, proof, changes }) => {
          const { outcome, details } = changeEvent(changes);
          const { keyId, label } = key.record;
          return { keyId, outcome, details: { label, proof, ...details } };
        },
      );
      report(destroyed, options, terminal);
      requireChanged(destroyed.changes, "destroyed");
    });
}

interface Destroyed {
  readonly key: ViewedKey;
  readonly proof: string;
  readonly changes: Changes;
}

async function destroy(
  settings: Settings,
  tokens: readonly Token[],
  reference: KeyReference,
  nodes: readonly URL[],
  options: DestroyOptions,
): Promise<Destroyed> {
  const { key, schedule, view } = destroyable(settings, tokens, reference);
  const left = departedKey(options, view, tokens);
  const stated = { ...options, ...(left !== undefined && { everyNodeHasLeft: left }) };
  const proof = await requireUnneeded(key, schedule, settings, nodes, stated);
  await confirm(key.record.keyId);
  return { key, proof, changes: await destroyOn(tokens, key.record) };
}

interface Destroyable {
  readonly key: ViewedKey;
  readonly schedule: Schedule;
  readonly view: KeyringView;
}

/** Returns the key_id of the KEK that `--every-node-has-left` names. @throws KmsError CONFIG_INVALID */
function departedKey(
  { everyNodeHasLeft }: DestroyOptions,
  view: KeyringView,
  tokens: readonly Token[],
): string | undefined {
  if (everyNodeHasLeft === undefined) return undefined;
  const option = "--every-node-has-left";
  const named = findNamedKey(option, parseKeyReference(option, everyNodeHasLeft), view, tokens);
  return named?.record.keyId ?? everyNodeHasLeft;
}

/** @throws KmsError KEY_UNKNOWN; TOKEN_REFUSED for the active KEK; why a token that may hold it cannot be read */
function destroyable(settings: Settings, tokens: readonly Token[], reference: KeyReference): Destroyable {
  const view = viewKeyring(tokens, schedulePolicy(settings), Date.now());
  const key = findNamedKey("<key_id>", reference, view, tokens);
  if (key === undefined) {
    const failure = tokens.find((token) => token.failure !== undefined)?.failure;
    throw (
      failure ??
      new KmsError("KEY_UNKNOWN", `no token holds a KEK with key_id ${reference.text}; nothing was destroyed`)
    );
  }
  // Without an active one nothing tells which of the others it is.
  if (key.state !== "refused" && view.problem !== undefined) throw view.problem;
  if (key.state !== "active") return { key, schedule: view.schedule, view };
  throw new KmsError(
    "TOKEN_REFUSED",
    `${key.record.keyId} is the active KEK and is not destroyed; rotate first`,
  );
}

/** Returns what shows it. @throws KmsError TOKEN_REFUSED when nothing does */
async function requireUnneeded(
  key: ViewedKey,
  schedule: Schedule,
  settings: Settings,
  nodes: readonly URL[],
  options: DestroyOptions,
): Promise<string> {
  const { state, activation, record } = key;
  const keyIds = [record.keyId, ...record.aliases];
  if (state === "standby" && activation !== undefined && nodes.length > 0)
    return requireNeverUsed(keyIds, activation, nodes);
  const left = await requireLeft(keyIds, nodes);
  return requireDisuse(key, { schedule, left }, settings, options);
}

/** Asks on a terminal for the key_id to be typed. @throws KmsError TOKEN_REFUSED; CANCELLED */
async function confirm(keyId: string): Promise<void> {
  if (!process.stdin.isTTY) return;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  // Ctrl-C and Ctrl-D fail the question; the end of the input only closes the terminal.
  const ended = new Promise<undefined>((resolve) => {
    terminal.once("close", () => {
      resolve(undefined);
    });
  });
  const answer = terminal.question(`Type the key_id to destroy it:\n`).catch(() => undefined);
  const typed = await Promise.race([answer, ended]);
  terminal.close();
  if (typed === undefined) throw new KmsError("CANCELLED", "no key_id was typed; nothing was destroyed");
  if (typed.trim() !== keyId)
    throw new KmsError("TOKEN_REFUSED", "another key_id was typed; nothing was destroyed");
}

function report({ key, proof, changes }: Destroyed, { output }: DestroyOptions, terminal: Terminal): void {
  const { keyId, label } = key.record;
  const { tokens, failure } = changes;
  if (output === "json") {
    terminal.out(formatJson({ destroyed: { keyId, label, state: key.state, proof }, tokens }));
    return;
  }
  const did = failure === undefined ? "destroyed" : "not destroyed everywhere:";
  const rows = tokens.length > 1 ? `\n${formatTable(["", "", ""], changeRows(changes)).trimStart()}` : "";
  if (tokens.length > 1 || failure === undefined) terminal.out(`${did} "${label}" (key_id ${keyId})${rows}`);
}
