// The tokens of a plugin that serves several clusters. Clusters whose URIs name the same token share its hosts, sessions,
// PIN and health; a token is opened for the first of them and closed after the last.
import { tokenIdentity } from "../config/clusters.js";
import { environmentWithoutPin } from "../config/pin-source.js";
import { formatPkcs11Uri } from "../config/pkcs11-uri.js";
import type { Settings, TokenSettings } from "../config/settings.js";
import { pinSourcesOf } from "../config/tokens.js";
import { FailoverHsm } from "../hsm/failover/failover.js";
import { KekOwners } from "../hsm/shared/kek-owners.js";
import { SharedToken } from "../hsm/shared/shared-token.js";
import type { TokenHsm } from "../hsm/token-hsm.js";
import type { KekName } from "../hsm/wire-calls.js";
import type { LibraryKind } from "../provider/reload-schedule.js";
import type { ClusterHsm } from "./cluster.js";
import { ConfiguredPin } from "./configured-pin.js";
import type { ServiceStart } from "./service.js";
import { holdPin, openToken, type LockedToken } from "./tokens.js";

interface Opened {
  readonly identity: string;
  readonly shared: SharedToken;
  /** Undefined for a PIN that an operator submits. */
  readonly pin: ConfiguredPin | undefined;
  readonly locked: LockedToken | undefined;
  readonly library: LibraryKind;
}

/** Opens and closes the tokens of clusters. */
export class ClusterTokens {
  readonly #start: ServiceStart;
  readonly #owners = new KekOwners();
  readonly #opened = new Map<string, Opened>();
  /** Whether tokens that are opened now are started at once. */
  #isRunning = false;

  constructor(start: ServiceStart) {
    this.#start = start;
  }

  get tokens(): readonly TokenHsm[] {
    return [...this.#opened.values()].map(({ shared }) => shared.hsm);
  }

  get locked(): readonly LockedToken[] {
    return [...this.#opened.values()].flatMap(({ locked }) => locked ?? []);
  }

  /** Has tokens that are opened from now on started at once. */
  begin(): void {
    this.#isRunning = true;
  }

  /** Returns the HSM for a cluster, and opens its tokens unless another cluster has. */
  open(settings: Settings): ClusterHsm {
    const { hsm, cluster } = settings;
    const name = cluster?.name ?? "";
    const { log } = this.#start;
    const members = settings.tokens.map((token) => {
      const opened = this.#token(settings, token);
      const port = opened.shared.add(name, kekNameOf(settings, token));
      return { name: formatPkcs11Uri(token.uri), hsm: port, opened };
    });
    const [only] = members;
    return {
      port:
        only !== undefined && members.length === 1
          ? only.hsm
          : new FailoverHsm({ members, requestTimeoutMs: hsm.requestTimeoutMs, log }),
      pins: members.map(({ opened }) => opened.pin),
      // In a failover set, tokens may have libraries of different kinds.
      library: only !== undefined && members.length === 1 ? only.opened.library : {},
    };
  }

  /** Closes the tokens that only this cluster uses. @param graceMs for closing their sessions */
  async close(cluster: string, graceMs: number): Promise<void> {
    this.#owners.release(cluster);
    const unused = [...this.#opened.values()].filter(({ shared }) => {
      shared.remove(cluster);
      return shared.isUnused;
    });
    for (const { identity } of unused) this.#opened.delete(identity);
    await Promise.all(
      unused.map(async ({ shared, locked }) => {
        await shared.hsm.stop(graceMs);
        locked?.held.forget();
      }),
    );
  }

  #token(settings: Settings, token: TokenSettings): Opened {
    const identity = tokenIdentity(token);
    const known = this.#opened.get(identity);
    if (known !== undefined) return known;
    const { env, hostEnv, observer, log } = this.#start;
    const { pin: source } = token;
    const held = source.kind === "unlock" ? holdPin(source) : undefined;
    const pin = held === undefined ? new ConfiguredPin(source, env) : undefined;
    const { hosts } = settings.hsm;
    const hsm = openToken({ settings, token, hosts, observer, log, env: hostEnv, suppliedPin: held ?? pin });
    const locked =
      source.kind === "unlock" && held !== undefined
        ? { settings: token, source, held, hsm, hosts }
        : undefined;
    const opened = {
      identity,
      shared: new SharedToken(hsm, this.#owners, log),
      pin,
      locked,
      library: {},
    };
    this.#opened.set(identity, opened);
    if (this.#isRunning) hsm.start();
    return opened;
  }
}

function kekNameOf({ objectName }: Settings, { uri }: TokenSettings): KekName {
  return { objectName, ...(uri.id !== undefined && { ckaId: Buffer.from(uri.id).toString("hex") }) };
}

/** Returns the environment of token hosts, without the PINs of any cluster. */
export function environmentOfHosts(env: NodeJS.ProcessEnv, all: readonly Settings[]): NodeJS.ProcessEnv {
  return environmentWithoutPin(
    env,
    all.flatMap(({ tokens }) => tokens.flatMap(pinSourcesOf)),
  );
}
