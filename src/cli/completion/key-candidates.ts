// The KEKs that a shell offers as values: from /keys of the node's plugin, without a PIN and without a login. Never takes
// long, and never fails: a plugin that does not answer offers nothing.
import { readBounded } from "../../admin/read-bounded.js";
import { formatHttpAddress, USUAL_HTTP, type HttpAddress } from "../../config/http-address.js";
import { parseNodeAddresses } from "../../config/node-address.js";
import type { Configuration } from "../../config/settings.js";
import { isKeyId } from "../../hsm/key-id.js";

export interface Candidate {
  readonly value: string;
  readonly description: string;
}

/** Where KEKs are looked up. */
export interface KeySource {
  readonly config: string | undefined;
  readonly nodes: string | undefined;
}

/** A plugin on this machine answers in a few ms. */
const LIMIT_MS = 500;

/** Returns key_ids, and the states such as "@active" that the description of the option or argument names. */
export async function keyCandidates(description: string, source: KeySource): Promise<Candidate[]> {
  const states = description.match(/@[a-z]+/gu) ?? [];
  const keys = await Promise.all((await nodesOf(source)).map(keysOf));
  const byKeyId = new Map(keys.flat().map((key) => [key.value, key]));
  return [
    ...states.map((value) => ({ value, description: "the only KEK in this state" })),
    ...byKeyId.values(),
  ];
}

/** Returns the URLs of the plugins' keyrings: those of --nodes, or this node's own. */
async function nodesOf({ config, nodes }: KeySource): Promise<URL[]> {
  try {
    if (nodes !== undefined) {
      return parseNodeAddresses(nodes.split(",")).filter(({ protocol }) => protocol.startsWith("http"));
    }
    const { http } = await settingsAt(config);
    if (http === undefined || http.port === 0) return [];
    return [keyringAt(http)];
  } catch {
    return config === undefined && nodes === undefined ? [keyringAt(USUAL_HTTP)] : [];
  }
}

function keyringAt(http: HttpAddress): URL {
  return new URL(`http://${formatHttpAddress(http)}/keys`);
}

async function settingsAt(config: string | undefined): Promise<Configuration["settings"]> {
  const { locateConfiguration } = await import("../../config/location.js");
  const { loadConfiguration } = await import("../../config/settings.js");
  const location = locateConfiguration({ config }, process.env);
  const configPath = location?.path ?? "";
  return loadConfiguration({ configPath, pinFromStdin: false, flags: {}, env: process.env, serves: false })
    .settings;
}

async function keysOf(url: URL): Promise<Candidate[]> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(LIMIT_MS), redirect: "error" });
    const body = (response.body ?? []) as AsyncIterable<Uint8Array>;
    const { keys } = JSON.parse(await readBounded(body)) as { keys: { keyId: string; state: string }[] };
    return keys.flatMap(({ keyId, state }) =>
      isKeyId(keyId) && /^[a-z]+$/u.test(state) ? [{ value: keyId, description: state }] : [],
    );
  } catch {
    return [];
  }
}
