// The credentials of the kubeconfig's user, from its files or its exec plugin, cached as long as client-go caches them.
import { KmsError } from "../errors.js";
import { codeOf } from "../files/file-error.js";
import { readAtMost } from "../files/read-into.js";
import { runExecPlugin, type ExecCredential } from "./kube-exec.js";
import type { KubeTarget } from "./kubeconfig.js";
import type { KubeUser } from "./kubeconfig-schema.js";

export interface KubeCredential {
  /** The header's value; undefined if the user has none, or if the client package creates it. */
  readonly authorization: string | undefined;
  /** PEM, from an exec plugin. */
  readonly certificate: string | undefined;
  readonly key: string | undefined;
}

/** The interval at which client-go reads a token file again, in ms: a minute, less the time that a request may take. */
const TOKEN_FILE_MS = 50_000;

/** An HTTP header cannot hold more anyway. */
const MAX_TOKEN_BYTES = 1 << 20;

const NOBODY: KubeCredential = { authorization: undefined, certificate: undefined, key: undefined };

export class KubeCredentials {
  readonly #target: KubeTarget;
  readonly #now: () => number;
  #current: Promise<KubeCredential> | undefined;
  #expiresAt = 0;

  /** @param now the time in ms since the epoch, for tests */
  constructor(target: KubeTarget, now: () => number = Date.now) {
    this.#target = target;
    this.#now = now;
  }

  /** Returns the same object until it expires. @throws KmsError CONFIG_INVALID */
  get(): Promise<KubeCredential> {
    if (this.#current === undefined || this.#now() >= this.#expiresAt) {
      // Never runs a second plugin while one is running.
      this.#expiresAt = Infinity;
      this.#current = this.#read();
      this.#current.catch(() => (this.#current = undefined));
    }
    return this.#current;
  }

  /** Drops a credential that the API server has refused, unless it has been replaced already. */
  async refuse(refused: KubeCredential): Promise<void> {
    const current = await this.#current?.catch(() => undefined);
    if (current === refused) this.#current = undefined;
  }

  async #read(): Promise<KubeCredential> {
    const { user, cluster } = this.#target;
    const { token = "", tokenFile = "", username = "", password = "", exec } = user;
    // As in client-go, the file takes precedence; the inline token is used until the file can be read.
    if (tokenFile !== "") {
      this.#expiresAt = this.#now() + TOKEN_FILE_MS;
      return bearer(readToken(tokenFile, token));
    }
    if (token !== "") return bearer(token);
    if (username + password !== "") {
      const basic = Buffer.from(`${username}:${password}`).toString("base64");
      return { ...NOBODY, authorization: `Basic ${basic}` };
    }
    // Runs a plugin only if the user has no other credential.
    if (!exec || hasCertificate(user)) return NOBODY;
    const credential = await runExecPlugin(exec, cluster);
    this.#expiresAt = credential.expiresAt;
    return ofPlugin(credential);
  }
}

function bearer(token: string): KubeCredential {
  return { ...NOBODY, authorization: `Bearer ${token}` };
}

function ofPlugin({ token, certificate, key }: ExecCredential): KubeCredential {
  return { authorization: token === undefined ? undefined : `Bearer ${token}`, certificate, key };
}

function hasCertificate(user: KubeUser): boolean {
  return Boolean(user["client-certificate"] ?? user["client-certificate-data"]);
}

function readToken(file: string, otherwise: string): string {
  let reason = "is empty";
  try {
    const token = readAtMost(file, MAX_TOKEN_BYTES).toString().trim();
    if (token !== "") return token;
  } catch (error) {
    if (error instanceof KmsError) throw error;
    reason = `cannot be read (${codeOf(error)})`;
  }
  if (otherwise !== "") return otherwise;
  throw new KmsError("CONFIG_INVALID", `the kubeconfig's tokenFile ${file} ${reason}`);
}

/** Returns the headers by which a user acts as another one. */
export function impersonationHeaders(user: KubeUser): Record<string, string | string[]> {
  const { as = "", "as-uid": uid = "", "as-groups": groups, "as-user-extra": extra } = user;
  if (as === "") return {};
  const extras = Object.entries(extra ?? {}).map(
    ([name, values]) => [`Impersonate-Extra-${escapeHeaderName(name)}`, values] as const,
  );
  return {
    "Impersonate-User": as,
    ...(uid !== "" && { "Impersonate-Uid": uid }),
    ...(groups && groups.length > 0 && { "Impersonate-Group": groups }),
    ...Object.fromEntries(extras.filter(([, values]) => values.length > 0)),
  };
}

/** Escapes characters that a header name may not hold (RFC 7230, token), and the percent sign. */
function escapeHeaderName(name: string): string {
  return [...Buffer.from(name)]
    .map((byte) => {
      const character = String.fromCharCode(byte);
      return /[!#$&'*+.^_`|~0-9A-Za-z-]/.test(character)
        ? character
        : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
    })
    .join("");
}
