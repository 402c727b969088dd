// `kms-pkcs11 keys list`: lists the generations of the KEK on the tokens and on the nodes' plugins.
import type { Command } from "commander";
import type { ApprovalView } from "../../admin/approval-view.js";
import type { Settings } from "../../config/settings.js";
import { CONFIGURATION_VARIABLE, namedConfiguration } from "../../config/location.js";
import { schedulePolicy } from "../../compose/provider.js";
import { KmsError } from "../../errors.js";
import { EXIT_NO, exitCodeOf } from "../exit-code.js";
import { reportFailure } from "../failure.js";
import { cryptoperiodFinding } from "../../provider/cryptoperiod.js";
import { viewKeyring, type KeyringView, type ViewedKey } from "../../admin/keyring-view.js";
import { compareNodes, nodeRows, readNodes, type NodeReport } from "../../admin/node-comparison.js";
import { formatJson, type OutputFormat, type Terminal } from "../output.js";
import { formatTable } from "../table.js";
import { namedNodes, nodesOf, NODES_FLAGS, type NodesOptions } from "../nodes-option.js";
import { operatorAt } from "../operator.js";
import { addKeyOptions, settingsFrom, type SettingsOptions } from "../settings-options.js";
import { requireAll, withTokens, type Token } from "../../admin/command-tokens.js";
import type { KeysListOutput } from "../output-schema/keys.js";

type ListOptions = SettingsOptions & NodesOptions;

interface Listing {
  readonly keys: KeysListOutput["keys"];
  readonly tokens: readonly { readonly token: string; readonly error: string | null }[];
  readonly nodes: readonly NodeReport[];
  /** A line for each difference between tokens and nodes. */
  readonly differences: readonly string[];
  /** Why no key is active; null when one is, or when no token was asked. */
  readonly problem: string | null;
}

const STATE_ORDER = ["standby", "active", "retired", "refused"];

/** Adds `keys list`. */
export function addKeysListCommand(keys: Command, terminal: Terminal): void {
  addKeyOptions(keys.command("list"))
    .description(
      "list the KEKs, past, present and next; exit 0 if one is active and all tokens, nodes and clocks agree, 1 if not, 3 if one does not answer",
    )
    .option(
      NODES_FLAGS,
      `also ask these plugins' /keys, such as http://127.0.0.1:8090 or ssh://root@cp-2, and compare; without --config, $${CONFIGURATION_VARIABLE} and --key, only these are asked (default: the setting nodes)`,
    )
    .addHelpText(
      "after",
      `
STATE follows from the labels and this machine's clock. For a node, ACTIVE is the KEK that Status names and Encrypt uses.
DUE is a KEK whose activation has passed but which the node uses only after the next Status call. Its API server calls Status
within a minute; 'kms-pkcs11 status' on that node calls it at once. With a policy, APPROVED says whether the policy and the
approvals on this machine (approvals.policy, stateDir) let a node activate the KEK.

Example:
  kms-pkcs11 keys list --config /etc/kms-pkcs11/config.yaml --output json
  kms-pkcs11 keys list --nodes http://127.0.0.1:18090,http://127.0.0.1:28090,http://127.0.0.1:38090`,
    )
    .action(async (_local, command: Command) => {
      const options = command.optsWithGlobals<ListOptions>();
      const { nodes, config, key } = options;
      const onlyNodes =
        nodes !== undefined && key === undefined && namedConfiguration(config, process.env) === undefined;
      const settings = onlyNodes ? undefined : settingsFrom(options, false);
      const urls = settings === undefined ? namedNodes(options) : nodesOf(options, settings);
      const reports = readNodes(urls ?? []);
      if (settings === undefined) finish(undefined, [], await reports, options, terminal);
      else {
        await withTokens(settings, operatorAt(terminal), async (tokens) => {
          if (tokens.every(({ failure }) => failure !== undefined)) requireAll(tokens, "");
          finish(settings, tokens, await reports, options, terminal, await approvalsOf(settings));
        });
      }
    });
}

/** Loads the code of approvals only if a policy is configured. */
async function approvalsOf(settings: Settings): Promise<ApprovalView | undefined> {
  if (settings.approvals === undefined) return undefined;
  return (await import("../../admin/approval-view.js")).approvalView(settings);
}

/** Time after its activation within which kube-apiserver may not have asked every node for Status yet, in ms. */
const FRESH_MS = 180_000;

function finish(
  settings: Settings | undefined,
  tokens: readonly Token[],
  nodes: readonly NodeReport[],
  { output }: ListOptions,
  terminal: Terminal,
  approvals?: ApprovalView,
): void {
  const now = Date.now();
  const view = settings && withAge(viewKeyring(tokens, schedulePolicy(settings), now), settings, now);
  const keys = sorted(view).map((key) => withApproval(key, approvals));
  const listing: Listing = {
    keys: keys.map((key) => asJson(key, now)),
    tokens: tokens.map(({ name, failure }) => ({ token: name, error: failure?.message ?? null })),
    nodes,
    differences: [...(view?.differences ?? []), ...compareNodes(nodes, view)],
    problem: view?.problem?.message ?? null,
  };
  if (output === "json") terminal.out(formatJson(listing satisfies KeysListOutput));
  else terminal.out(describe(listing, keys, tokens.length > 1, now));
  if (listing.problem !== null || listing.differences.length > 0) process.exitCode = EXIT_NO;
  else reportMissing(tokens, nodes, output, terminal);
}

/** Adds the finding about the active KEK's age. */
export function withAge(
  view: KeyringView,
  { cryptoperiodMs }: Pick<Settings, "cryptoperiodMs">,
  now: number,
): KeyringView {
  const keys = view.keys.map((key) => {
    const age = key.state === "active" && cryptoperiodFinding(key.activation, now, cryptoperiodMs);
    return typeof age === "string" ? { ...key, findings: [...key.findings, age] } : key;
  });
  return { ...view, keys };
}

/** Sets the exit code if a token or node is missing from the list. People see that in the list itself. */
function reportMissing(
  tokens: readonly Token[],
  nodes: readonly NodeReport[],
  output: OutputFormat,
  terminal: Terminal,
): void {
  const token = tokens.find(({ failure }) => failure !== undefined)?.failure;
  const node = nodes.find(({ error }) => error !== null);
  const failure = token ?? (node && new KmsError("PEER_UNREACHABLE", `${node.url}: ${String(node.error)}`));
  if (failure === undefined) process.exitCode = 0;
  else if (output === "json") reportFailure(failure, output, terminal);
  else process.exitCode = exitCodeOf(failure.code);
}

function sorted(view: KeyringView | undefined): ViewedKey[] {
  const rank = ({ state }: ViewedKey): number => STATE_ORDER.indexOf(state);
  return [...(view?.keys ?? [])].sort((one, other) => rank(one) - rank(other));
}

/** A KEK, and whether this machine's node may activate it; undefined if no policy is configured. */
type ListedKey = ViewedKey & { readonly isApproved: boolean | undefined };

function withApproval(key: ViewedKey, approvals: ApprovalView | undefined): ListedKey {
  if (approvals === undefined || key.state === "refused") return { ...key, isApproved: undefined };
  const refusal = approvals(key.record, key.activation ?? -Infinity);
  if (refusal === undefined) return { ...key, isApproved: true };
  return { ...key, isApproved: false, findings: [...key.findings, `not approved: ${refusal}`] };
}

function asJson(
  { record, state, activation, findings, holders, isApproved }: ListedKey,
  now: number,
): KeysListOutput["keys"][number] {
  const { keyId, aliases, label, ckaId, kind } = record;
  return {
    keyId,
    aliases,
    label,
    ckaId,
    kind,
    state,
    activation: activation === undefined ? null : new Date(activation).toISOString(),
    ageSeconds: activation === undefined ? null : Math.round((now - activation) / 1000),
    approved: isApproved ?? null,
    findings,
    tokens: holders,
  };
}

function describe(listing: Listing, keys: readonly ListedKey[], several: boolean, now: number): string {
  const judged = keys.some(({ isApproved }) => isApproved !== undefined);
  const head = [
    "STATE",
    "ACTIVATION",
    "AGE",
    "KIND",
    "KEY_ID",
    "LABEL",
    ...(judged ? ["APPROVED"] : []),
    ...(several ? ["TOKENS"] : []),
    "FINDINGS",
  ];
  const rows = keys.map(({ record, state, activation, findings, holders, isApproved }) => [
    state,
    activation === undefined ? "always" : new Date(activation).toISOString(),
    activation === undefined ? "-" : age(now - activation),
    record.kind,
    record.keyId,
    record.label,
    ...(judged ? [isApproved === undefined ? "-" : isApproved ? "yes" : "no"] : []),
    ...(several ? [`${holders.length} of ${listing.tokens.length}`] : []),
    findings.length === 0 ? "none" : findings.join("; "),
  ]);
  const away = listing.tokens.flatMap(({ token, error }) => (error === null ? [] : [`${token}: ${error}`]));
  return [
    ...(rows.length === 0 ? [] : [formatTable(head, rows)]),
    ...(listing.nodes.length === 0
      ? []
      : [formatTable(["NODE", "ACTIVE", "STANDBY", "DUE", "RETIRED", "CLOCK"], nodeRows(listing.nodes))]),
    ...away,
    ...listing.differences.map((difference) => `differs: ${difference}`),
    ...(listing.problem === null ? [] : [listing.problem]),
    ...noteOnFreshKek(listing, now),
  ].join("\n");
}

/** The token alone does not show whether a node has switched to a KEK that has just become active. */
function noteOnFreshKek({ keys, nodes }: Listing, now: number): string[] {
  const active = keys.find(({ state }) => state === "active");
  const age = now - Date.parse(active?.activation ?? "");
  return nodes.length === 0 && age < FRESH_MS
    ? [
        "note: a node uses the active KEK from its next Status call on; kube-apiserver makes one every minute. " +
          "To see what the nodes use, add --nodes.",
      ]
    : [];
}

/** Returns an age such as 12d, 3h or 40s, or "in 9m" for a time in the future. */
function age(ms: number): string {
  const seconds = Math.round(Math.abs(ms) / 1000);
  const units = [
    [86_400, "d"],
    [3_600, "h"],
    [60, "m"],
  ] as const;
  const unit = units.find(([length]) => seconds >= 2 * length);
  const text = unit === undefined ? `${seconds}s` : `${Math.floor(seconds / unit[0])}${unit[1]}`;
  return ms < 0 ? `in ${text}` : text;
}
