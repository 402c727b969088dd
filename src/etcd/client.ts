// A read-only client of etcd's v3 API over gRPC: ranges of keys, and the cluster's id. Every read is linearizable.
// Several endpoints are members of one cluster: if one does not answer, the next is asked. While the members elect a leader,
// all of them refuse, so they are asked again, as etcd's own client does.
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import {
  Client,
  Metadata,
  loadPackageDefinition,
  status,
  type ServiceClientConstructor,
  type ServiceError,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { KmsError } from "../errors.js";
import { muteGrpc } from "../grpc-log.js";
import { etcdTargets, type EtcdAccess, type EtcdTarget } from "./endpoints.js";
import { RangePage } from "./range-response.js";

const PROTO = fileURLToPath(new URL("../../proto/etcd/v3/rpc.proto", import.meta.url));
const CALL_TIMEOUT_MS = 30_000;
/** An election takes one to two seconds; a cluster that has lost its quorum elects nobody. */
const ELECTION_MS = 10_000;
const ELECTION_POLL_MS = 250;
/** As in etcd's api/v3rpc/rpctypes/error.go. */
const ELECTING =
  /^etcdserver: (?:leader changed|no leader|request timed out, possibly due to previous leader failure)/;
/** etcd accepts values of 1.5 MB by default. The caller asks for a smaller page if a page exceeds this. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

export interface RangeRequest {
  readonly key: Buffer;
  /** The first key behind the range; if omitted, the range is the single key. */
  readonly end?: Buffer;
  /** The maximum number of entries in the answer. */
  readonly limit: number;
  /** The revision to read; the current one if omitted. */
  readonly revision?: number;
  /** Whether to return only the number of keys, and no key. */
  readonly countOnly?: boolean;
}

/** Why etcd refused a range that the caller may request differently. */
export type RangeRefusal = "compacted" | "too-large";

export interface EtcdCluster {
  /** The cluster's id in hexadecimal, as `etcdctl endpoint status` prints it. */
  readonly id: string;
  readonly version: string;
}

interface Header {
  readonly cluster_id: string;
  readonly revision: string;
}

type Service = "KV" | "Maintenance";

interface Member {
  readonly target: EtcdTarget;
  readonly client: Client;
}

export class EtcdClient {
  readonly #members: readonly Member[];
  #serving = 0;

  /** Connects with the first request. @throws KmsError CONFIG_INVALID if the endpoints or TLS files cannot be used */
  constructor(access: EtcdAccess) {
    muteGrpc();
    this.#members = etcdTargets(access).map((target) => ({
      target,
      client: new Client(target.address, target.credentials, {
        "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
        "grpc.enable_channelz": 0,
        // http_proxy, https_proxy and grpc_proxy are meant for the web, and grpc-js would apply them to loopback too.
        "grpc.enable_http_proxy": 0,
        ...target.options,
      }),
    }));
  }

  /** Returns the cluster's id and version. @throws KmsError PEER_UNREACHABLE if no endpoint answers */
  async cluster(): Promise<EtcdCluster> {
    const answer = (await this.#call("Maintenance", "Status", {})) as { header: Header; version: string };
    return { id: BigInt(answer.header.cluster_id).toString(16), version: answer.version };
  }

  /**
   * Returns a page of a range, or why etcd refuses it. Linearizable, even at a given revision: a member that lags may
   * not have that revision yet, and one round of the quorum costs little compared with a page.
   * @throws KmsError PEER_UNREACHABLE
   */
  async range({
    key,
    end,
    limit,
    revision,
    countOnly = false,
  }: RangeRequest): Promise<RangePage | RangeRefusal> {
    // An empty range_end would mean all keys from this one on.
    const request = {
      key,
      ...(end !== undefined && { range_end: end }),
      limit,
      revision: revision ?? 0,
      count_only: countOnly,
    };
    try {
      return (await this.#call("KV", "Range", request)) as RangePage;
    } catch (error) {
      const cause = error instanceof KmsError ? error.cause : undefined;
      const refusal = refusalOf(cause);
      if (refusal === undefined) throw error;
      return refusal;
    }
  }

  close(): void {
    for (const { client } of this.#members) client.close();
  }

  async #call(service: Service, method: string, request: object): Promise<unknown> {
    for (const giveUpAt = performance.now() + ELECTION_MS; ;) {
      const { answer, failures } = await this.#ask(service, method, request);
      if (failures.length === 0) return answer;
      const isElecting = failures.some(({ error }) => ELECTING.test(error.details));
      if (!isElecting || performance.now() > giveUpAt) throw unreachable(failures);
      await sleep(ELECTION_POLL_MS);
    }
  }

  /**
   * Asks the member that answered last, then the others if it does not answer or, as a learner does, refuses on its own.
   * Returns the answer, or why no member gives one.
   */
  async #ask(
    service: Service,
    method: string,
    request: object,
  ): Promise<{ readonly answer?: unknown; readonly failures: readonly Failure[] }> {
    const failures: Failure[] = [];
    for (let tried = 0; tried < this.#members.length; tried++) {
      const at = (this.#serving + tried) % this.#members.length;
      const member = this.#members[at];
      if (member === undefined) continue;
      try {
        const answer = await unary(member.client, service, method, request);
        this.#serving = at;
        return { answer, failures: [] };
      } catch (error) {
        const { endpoint } = member.target;
        failures.push({ endpoint, error: error as ServiceError });
        if (isRefusedByAll(error as ServiceError)) break;
      }
    }
    return { failures };
  }
}

interface Failure {
  readonly endpoint: string;
  readonly error: ServiceError;
}

/** Returns whether every member would refuse the request, or the answer is too large to receive. */
function isRefusedByAll(error: ServiceError): boolean {
  if ([status.INVALID_ARGUMENT, status.NOT_FOUND, status.OUT_OF_RANGE].includes(error.code)) return true;
  return refusalOf(error) !== undefined;
}

function unreachable(failures: readonly Failure[]): KmsError {
  const last = failures.at(-1)?.error;
  const hint =
    last?.code === status.UNAVAILABLE
      ? "; are the endpoints, --cacert, --cert and --key those of this cluster?"
      : "";
  const reasons = failures.map(
    ({ endpoint, error }) => `${endpoint}: ${error.details.replace(/[. ]*Resolution note: $/, "")}`,
  );
  return new KmsError("PEER_UNREACHABLE", `etcd does not answer: ${reasons.join("; ")}${hint}`, last);
}

function refusalOf(error: unknown): RangeRefusal | undefined {
  const { code, details } = (error ?? {}) as Partial<ServiceError>;
  if (code === status.OUT_OF_RANGE && details?.includes("compacted") === true) return "compacted";
  // From etcd, RESOURCE_EXHAUSTED means too many requests; from grpc-js, a message that is too large.
  const isOurs = details?.startsWith("etcdserver:") !== true;
  return code === status.RESOURCE_EXHAUSTED && isOurs ? "too-large" : undefined;
}

const SERVICES = loadPackageDefinition(
  loadSync(PROTO, { keepCase: true, defaults: true, longs: String }),
) as unknown as { etcdserverpb: Record<Service, ServiceClientConstructor> };

function unary(client: Client, service: Service, method: string, request: object): Promise<unknown> {
  const definition = SERVICES.etcdserverpb[service].service[method];
  if (definition === undefined) throw new TypeError(`no method ${service}/${method}`);
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      definition.path,
      definition.requestSerialize,
      method === "Range" ? (bytes: Buffer) => new RangePage(bytes) : definition.responseDeserialize,
      request,
      new Metadata(),
      { deadline: Date.now() + CALL_TIMEOUT_MS },
      (error, answer) => {
        if (error === null) resolve(answer);
        else reject(error);
      },
    );
  });
}
