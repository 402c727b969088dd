// A reader of etcd's v3 API over gRPC: ranges of keys, and what cluster answers. Only reads, and only through the
// quorum. Several endpoints are one cluster's members: the next is asked when one does not answer.
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
import { etcdTargets, type EtcdAccess, type EtcdTarget } from "./endpoints.js";

const PROTO = fileURLToPath(new URL("../../proto/etcd/v3/rpc.proto", import.meta.url));
const CALL_TIMEOUT_MS = 30_000;
/** etcd keeps values of 1.5 MB by default; a page of many is cut down rather than refused for good. */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

export interface EtcdEntry {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly createRevision: number;
  readonly modRevision: number;
}

export interface RangeQuestion {
  readonly key: Buffer;
  /** The first key that no longer belongs to the range; without it, the single key. */
  readonly end?: Buffer;
  /** Most entries in the answer. */
  readonly limit: number;
  /** The store as it was then; without it, as it is now. */
  readonly revision?: number;
}

export interface RangePage {
  readonly entries: readonly EtcdEntry[];
  readonly more: boolean;
  /** Keys in the range, whatever the limit. */
  readonly count: number;
  /** The store's revision when it answered. */
  readonly revision: number;
}

/** A range that was not answered, and that may be asked for in another way. */
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

interface RangeAnswer {
  readonly header: Header;
  readonly kvs: readonly {
    key: Buffer;
    value: Buffer;
    create_revision: string;
    mod_revision: string;
  }[];
  readonly more: boolean;
  readonly count: string;
}

type Service = "KV" | "Maintenance";

interface Member {
  readonly target: EtcdTarget;
  readonly client: Client;
}

export class EtcdClient {
  readonly #members: readonly Member[];
  #serving = 0;

  /** Connects when it is first asked. @throws KmsError CONFIG_INVALID */
  constructor(access: EtcdAccess) {
    this.#members = etcdTargets(access).map((target) => ({
      target,
      client: new Client(target.address, target.credentials, {
        "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
        "grpc.enable_channelz": 0,
        // etcd is asked directly: http_proxy, https_proxy and grpc_proxy are for the web, and apply to loopback too here.
        "grpc.enable_http_proxy": 0,
        ...target.options,
      }),
    }));
  }

  /** @throws KmsError PEER_UNREACHABLE when no endpoint answers */
  async cluster(): Promise<EtcdCluster> {
    const answer = (await this.#call("Maintenance", "Status", {})) as { header: Header; version: string };
    return { id: BigInt(answer.header.cluster_id).toString(16), version: answer.version };
  }

  /**
   * Linearizable, at a revision too: a member that lags would answer with a revision that it does not have yet,
   * and one round of the quorum a page costs nothing beside the page.
   * @throws KmsError PEER_UNREACHABLE
   */
  async range({ key, end, limit, revision }: RangeQuestion): Promise<RangePage | RangeRefusal> {
    // A range_end that is there but empty would mean all keys from this one on.
    const question = { key, ...(end !== undefined && { range_end: end }), limit, revision: revision ?? 0 };
    let answer: RangeAnswer;
    try {
      answer = (await this.#call("KV", "Range", question)) as RangeAnswer;
    } catch (error) {
      const cause = error instanceof KmsError ? error.cause : undefined;
      const refusal = refusalOf(cause);
      if (refusal === undefined) throw error;
      return refusal;
    }
    return {
      entries: answer.kvs.map((entry) => ({
        key: entry.key,
        value: entry.value,
        createRevision: Number(entry.create_revision),
        modRevision: Number(entry.mod_revision),
      })),
      more: answer.more,
      count: Number(answer.count),
      revision: Number(answer.header.revision),
    };
  }

  close(): void {
    for (const { client } of this.#members) client.close();
  }

  /** Asks the member that answered last, then the others, also after what only that member refuses, such as a learner. */
  async #call(service: Service, method: string, question: object): Promise<unknown> {
    const failures: string[] = [];
    let last: ServiceError | undefined;
    for (let tried = 0; tried < this.#members.length; tried++) {
      const at = (this.#serving + tried) % this.#members.length;
      const member = this.#members[at];
      if (member === undefined) continue;
      try {
        const answer = await unary(member.client, service, method, question);
        this.#serving = at;
        return answer;
      } catch (error) {
        last = error as ServiceError;
        failures.push(`${member.target.endpoint}: ${last.details.replace(/[. ]*Resolution note: $/, "")}`);
        if (isAboutQuestion(last)) break;
      }
    }
    throw unreachable(failures, last);
  }
}

/** Returns whether every member would refuse likewise, or the answer itself could not be read. */
function isAboutQuestion(error: ServiceError): boolean {
  if ([status.INVALID_ARGUMENT, status.NOT_FOUND, status.OUT_OF_RANGE].includes(error.code)) return true;
  return refusalOf(error) !== undefined;
}

function unreachable(failures: readonly string[], last: ServiceError | undefined): KmsError {
  const hint =
    last?.code === status.UNAVAILABLE
      ? "; are the endpoints, --cacert, --cert and --key those of this cluster?"
      : "";
  return new KmsError("PEER_UNREACHABLE", `etcd does not answer: ${failures.join("; ")}${hint}`, last);
}

function refusalOf(error: unknown): RangeRefusal | undefined {
  const { code, details } = (error ?? {}) as Partial<ServiceError>;
  if (code === status.OUT_OF_RANGE && details?.includes("compacted") === true) return "compacted";
  // etcd's own RESOURCE_EXHAUSTED speaks of too many requests; grpc-js's of the message.
  const isOurs = details?.startsWith("etcdserver:") !== true;
  return code === status.RESOURCE_EXHAUSTED && isOurs ? "too-large" : undefined;
}

const SERVICES = loadPackageDefinition(
  loadSync(PROTO, { keepCase: true, defaults: true, longs: String }),
) as unknown as { etcdserverpb: Record<Service, ServiceClientConstructor> };

function unary(client: Client, service: Service, method: string, question: object): Promise<unknown> {
  const definition = SERVICES.etcdserverpb[service].service[method];
  if (definition === undefined) throw new TypeError(`no method ${service}/${method}`);
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      definition.path,
      definition.requestSerialize,
      definition.responseDeserialize,
      question,
      new Metadata(),
      { deadline: Date.now() + CALL_TIMEOUT_MS },
      (error, answer) => {
        if (error === null) resolve(answer);
        else reject(error);
      },
    );
  });
}
