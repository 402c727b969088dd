// Connects requests to an API server, with the TLS settings, client certificate and proxy of a kubeconfig. The client
// package provides them, and OIDC tokens; it is loaded only here and only when needed, since loading takes most of a second.
// Its kubeconfig reader and exec plugins are not used, since they differ from kubectl's, nor its typed calls, which drop
// fields unknown to its own release.
import type { Agent } from "node:http";
import type { RequestOptions } from "node:https";
import { isIP } from "node:net";
import { checkServerIdentity } from "node:tls";
import type { Cluster, User } from "@kubernetes/client-node";
import { KmsError } from "../errors.js";
import type { KubeCredential } from "./kube-credentials.js";
import type { KubeTarget } from "./kubeconfig.js";
import type { KubeUser } from "./kubeconfig-schema.js";

/** Where connections lead. */
interface KubeRoute {
  /** The server's URL. */
  readonly server: string;
  readonly proxy: string | undefined;
  readonly target: KubeTarget;
}

export class KubeConnections {
  readonly #route: KubeRoute;
  /** Connection options, with an agent that keeps connections, and the client certificate in them. */
  #options: { readonly certificate: string | undefined; readonly made: Promise<RequestOptions> } | undefined;
  readonly #agents: Agent[] = [];

  constructor(route: KubeRoute) {
    this.#route = route;
  }

  /** Makes the next request read the TLS files again. */
  renew(): void {
    this.#options = undefined;
  }

  /** Closes all connections. */
  close(): void {
    for (const agent of this.#agents) agent.destroy();
  }

  /** Returns the options of a request with a credential. @throws KmsError CONFIG_INVALID */
  optionsFor({ certificate, key }: KubeCredential): Promise<RequestOptions> {
    if (this.#options === undefined || this.#options.certificate !== certificate) {
      this.#options = { certificate, made: this.#makeOptions(certificate, key) };
    }
    return this.#options.made;
  }

  /** Reads the TLS files. @throws KmsError CONFIG_INVALID */
  async #makeOptions(certificate: string | undefined, key: string | undefined): Promise<RequestOptions> {
    const { KubeConfig } = await import("@kubernetes/client-node");
    const config = new KubeConfig();
    config.loadFromClusterAndUser(
      this.#clusterForPackage(),
      userForPackage(this.#route.target.user, certificate, key),
    );
    const options: RequestOptions = {};
    try {
      await config.applyToHTTPSOptions(options);
    } catch (error) {
      const { code, path } = error as NodeJS.ErrnoException;
      const what =
        path === undefined ? "are not usable" : `need ${path}, which cannot be read (${String(code)})`;
      throw new KmsError("CONFIG_INVALID", `the kubeconfig's credentials ${what}`, error);
    }
    // The package intends one agent per request.
    const agent = Object.assign(options.agent as Agent, { keepAlive: true });
    this.#agents.push(agent);
    return { ...options, ...this.#identityOptions() };
  }

  /** An address is not sent as the TLS server name (RFC 6066), which Node.js 26 refuses, but is compared, as by kubectl. */
  #identityOptions(): Pick<RequestOptions, "servername" | "checkServerIdentity"> {
    const name = this.#serverName;
    if (isIP(name) === 0) return {};
    return {
      servername: "",
      checkServerIdentity: (_host, certificate) => checkServerIdentity(name, certificate),
    };
  }

  get #serverName(): string {
    return this.#route.target.cluster["tls-server-name"] ?? "";
  }

  #clusterForPackage(): Cluster {
    const { cluster } = this.#route.target;
    return defined({
      name: "cluster",
      server: this.#route.server,
      caFile: cluster["certificate-authority"],
      caData: cluster["certificate-authority-data"],
      tlsServerName: isIP(this.#serverName) === 0 ? this.#serverName : undefined,
      // Otherwise the package refuses plain HTTP, which has no certificate to verify.
      skipTLSVerify:
        cluster["insecure-skip-tls-verify"] === true || new URL(this.#route.server).protocol === "http:",
      proxyUrl: this.#route.proxy,
    });
  }
}

function userForPackage(user: KubeUser, certificate: string | undefined, key: string | undefined): User {
  const base64 = (pem: string | undefined): string | undefined => pem && Buffer.from(pem).toString("base64");
  return defined({
    name: "user",
    certFile: user["client-certificate"],
    certData: base64(certificate) ?? user["client-certificate-data"],
    keyFile: user["client-key"],
    keyData: base64(key) ?? user["client-key-data"],
    authProvider: user["auth-provider"] ?? undefined,
  });
}

/** Returns an object without the members that are undefined or empty. */
function defined<T extends object>(members: { [name in keyof T]: T[name] | undefined }): T {
  const given = Object.entries(members).filter(([, value]) => value !== undefined && value !== "");
  return Object.fromEntries(given) as T;
}
