// The KEKs that a shell offers as values: from /keys of the node's plugin, without a PIN and without a login. Never
// takes long, and never fails: a plugin that does not answer gives no candidates.
import { readNodeText } from "../../admin/node-client.js";
import { formatHttpAddress, USUAL_HTTP, type HttpAddress } from "../../config/http-address.js";
import { ofCluster } from "../../config/node-address.js";
import { isKeyId } from "../../hsm/key-id.js";
import { namedNodes } from "../nodes-option.js";
import { settingsFrom } from "../settings-options.js";

export interface Candidate {
  readonly value: string;
  readonly description: string;
}

/** Where KEKs are looked up. */
export interface KeySource {
  readonly config: string | undefined;
  readonly nodes: string | undefined;
  readonly cluster: string | undefined;
}

/** A plugin on this machine answers in a few ms. */
const LIMIT_MS = 500;

/** Returns key_ids, and the states such as "@active" that the description of the option or argument names. */
export async function keyCandidates(description: string, source: KeySource): Promise<Candidate[]> {
  const states = description.match(/@[a-z]+/gu) ?? [];
  const keys = await Promise.all(nodesOf(source).map(keysOf));
  const byKeyId = new Map(keys.flat().map((key) => [key.value, key]));
  return [
    ...states.map((value) => ({ value, description: "the only KEK in this state" })),
    ...byKeyId.values(),
  ];
}

/** Returns the URLs of the plugins' keyrings: those of --nodes, or this node's own. */
function nodesOf({ config, nodes, cluster }: KeySource): URL[] {
  const options = {
    ...(config !== undefined && { config }),
    ...(nodes !== undefined && { nodes }),
    ...(cluster !== undefined && { cluster }),
    output: "table" as const,
  };
  try {
    const named = namedNodes(options);
    // A tunnel of ssh would take too long.
    if (named !== undefined) return named.filter(({ protocol }) => protocol.startsWith("http"));
    const settings = settingsFrom(options, false);
    const { http } = settings;
    if (http === undefined || http.port === 0) return [];
    return [ofCluster(keyringAt(http), settings.cluster?.name)];
  } catch {
    return config === undefined && nodes === undefined ? [keyringAt(USUAL_HTTP)] : [];
  }
}

function keyringAt(http: HttpAddress): URL {
  return new URL(`http://${formatHttpAddress(http)}/keys`);
}

async function keysOf(url: URL): Promise<Candidate[]> {
  try {
    const { text } = await readNodeText(url, LIMIT_MS);
    const { keys } = JSON.parse(text) as { keys: { keyId: string; state: string }[] };
    return keys.flatMap(({ keyId, state }) =>
      isKeyId(keyId) && /^[a-z]+$/u.test(state) ? [{ value: keyId, description: state }] : [],
    );
  } catch {
    return [];
  }
}
