// Reads and changes what is stored in etcd, without the API server, through the JSON gateway of etcd's v3 gRPC API.
// Needs no etcdctl, which KUBEBUILDER_ASSETS does not contain.

export interface StoredEntry {
  readonly key: string;
  readonly value: Buffer;
  readonly createRevision: number;
  readonly modRevision: number;
}

interface RangeAnswer {
  readonly header: { readonly revision: string };
  readonly kvs?: readonly { key: string; value?: string; create_revision: string; mod_revision: string }[];
  readonly count?: string;
}

/** Returns the key under which the API server stores an object, such as `/registry/secrets/<namespace>/<name>`. */
export function storageKey(resource: string, namespace: string, name: string): string {
  return `/registry/${resource}/${namespace}/${name}`;
}

export class EtcdStore {
  readonly #endpoint: string;

  constructor(endpoint: string) {
    this.#endpoint = endpoint;
  }

  /** Returns the value of one key; undefined if there is no such key. */
  async get(key: string): Promise<Buffer | undefined> {
    const answer = await this.#call<RangeAnswer>("range", { key: base64(key) });
    const entry = answer.kvs?.[0];
    return entry && Buffer.from(entry.value ?? "", "base64");
  }

  /** Returns every entry whose key begins with the prefix, in the order of the keys. */
  async list(prefix: string): Promise<StoredEntry[]> {
    const answer = await this.#call<RangeAnswer>("range", {
      key: base64(prefix),
      range_end: base64(after(prefix)),
    });
    return (answer.kvs ?? []).map((entry) => ({
      key: Buffer.from(entry.key, "base64").toString(),
      value: Buffer.from(entry.value ?? "", "base64"),
      createRevision: Number(entry.create_revision),
      modRevision: Number(entry.mod_revision),
    }));
  }

  async revision(): Promise<number> {
    return Number((await this.#call<RangeAnswer>("range", { key: base64("/") })).header.revision);
  }

  async count(prefix: string): Promise<number> {
    const range = { key: base64(prefix), range_end: base64(after(prefix)), count_only: true };
    return Number((await this.#call<RangeAnswer>("range", range)).count ?? 0);
  }

  async put(key: string, value: Buffer): Promise<void> {
    await this.#call("put", { key: base64(key), value: value.toString("base64") });
  }

  /** Stores many values with few requests; etcd accepts 128 per request unless it is started with a higher limit. */
  async putAll(entries: Iterable<readonly [key: string, value: Buffer]>, atOnce = 128): Promise<void> {
    let success: unknown[] = [];
    const flush = async (): Promise<void> => {
      if (success.length > 0) await this.#call("txn", { success });
      success = [];
    };
    for (const [key, value] of entries) {
      success.push({ request_put: { key: base64(key), value: value.toString("base64") } });
      if (success.length === atOnce) await flush();
    }
    await flush();
  }

  /** Stores a value that etcd deletes when the lease expires, after an hour. */
  async putLeased(key: string, value: Buffer): Promise<void> {
    const { ID: lease } = await this.#post<{ ID: string }>("lease/grant", { TTL: 3600 });
    await this.#call("put", { key: base64(key), value: value.toString("base64"), lease });
  }

  /** Compacts all revisions before the newest. */
  async compact(): Promise<void> {
    await this.#call("compaction", { revision: await this.revision(), physical: true });
  }

  async delete(key: string): Promise<void> {
    await this.#call("deleterange", { key: base64(key) });
  }

  async deletePrefix(prefix: string): Promise<void> {
    await this.#call("deleterange", { key: base64(prefix), range_end: base64(after(prefix)) });
  }

  async defragment(): Promise<void> {
    await this.#post("maintenance/defragment", {});
  }

  /** Returns the file that `etcdctl snapshot save` would write. */
  async snapshot(): Promise<Buffer> {
    const response = await this.#request("maintenance/snapshot", {});
    return Buffer.concat(
      [...(await response.text()).matchAll(/"blob":"([^"]*)"/g)].map(([, part = ""]) =>
        Buffer.from(part, "base64"),
      ),
    );
  }

  async #call<T>(method: string, body: unknown): Promise<T> {
    return this.#post<T>(`kv/${method}`, body);
  }

  async #post<T>(path: string, body: unknown): Promise<T> {
    return (await (await this.#request(path, body)).json()) as T;
  }

  async #request(path: string, body: unknown): Promise<Response> {
    const response = await fetch(`${this.#endpoint}/v3/${path}`, {
      method: "POST",
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`etcd ${path}: ${response.status} ${await response.text()}`);
    return response;
  }
}

const base64 = (text: string | Buffer): string => Buffer.from(text).toString("base64");

/** Returns the end of the range of all keys with this prefix: the prefix with its last byte increased by one. */
function after(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  const last = end.length - 1;
  end.writeUInt8(end.readUInt8(last) + 1, last);
  return end;
}
