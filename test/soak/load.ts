// The soak's load: callers that encrypt, decrypt what was encrypted before, and send changed ciphertexts through one
// socket, and check every answer. An answer is wrong if it is another plaintext, if a changed ciphertext decrypts, or
// if a valid ciphertext is refused as invalid.

import { randomBytes } from "node:crypto";

import { KmsClient, type KmsCiphertext } from "../../src/kms-client/kms-client.js";

interface Kept {
  readonly plaintext: Buffer;
  readonly sealed: KmsCiphertext;
}

const MAX_KEPT = 500;
/** gRPC statuses that report a fault of the HSM and nothing about the request. */
const TROUBLE = /^(UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|FAILED_PRECONDITION|CANCELLED)\b/;
const REFUSED = /^INVALID_ARGUMENT\b/;

export class Load {
  requests = 0;
  answered = 0;
  troubled = 0;
  readonly wrong: string[] = [];
  /** Number of consecutive good answers since the last fault. */
  inARow = 0;
  readonly #clients: readonly KmsClient[];
  readonly #kept: Kept[] = [];
  #stopped = false;

  constructor(socket: string, connections: number) {
    this.#clients = Array.from({ length: connections }, () => new KmsClient(socket));
  }

  /** Runs this many callers until the load is stopped. */
  async run(callers: number): Promise<void> {
    await Promise.all(Array.from({ length: callers }, (_, caller) => this.#call(caller)));
    for (const client of this.#clients) client.close();
  }

  stop(): void {
    this.#stopped = true;
  }

  async #call(caller: number): Promise<void> {
    const client = this.#clients[caller % this.#clients.length];
    if (client === undefined) throw new RangeError("no client");
    for (let turn = caller; !this.#stopped; turn++) {
      const kept = this.#kept[Math.floor(Math.random() * this.#kept.length)];
      const work =
        turn % 10 === 0
          ? client.status().then(() => undefined)
          : kept === undefined || turn % 3 === 0
            ? this.#encrypt(client)
            : turn % 7 === 0
              ? this.#decryptChanged(client, kept)
              : this.#decrypt(client, kept);
      await this.#count(work);
      // A plugin that fails at once must not be called in a tight loop.
      if (this.inARow === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async #count(work: Promise<void>): Promise<void> {
    this.requests++;
    try {
      await work;
      this.answered++;
      this.inARow++;
    } catch (error) {
      this.inARow = 0;
      const message = error instanceof Error ? error.message : String(error);
      if (TROUBLE.test(message)) this.troubled++;
      else this.wrong.push(message);
    }
  }

  async #encrypt(client: KmsClient): Promise<void> {
    const plaintext = randomBytes(1 + Math.floor(Math.random() * 768));
    const sealed = await client.encrypt(plaintext, "soak");
    if (this.#kept.length < MAX_KEPT) this.#kept.push({ plaintext, sealed });
    else this.#kept[Math.floor(Math.random() * MAX_KEPT)] = { plaintext, sealed };
  }

  async #decrypt(client: KmsClient, { plaintext, sealed }: Kept): Promise<void> {
    const opened = await client.decrypt(sealed, "soak");
    if (!opened.equals(plaintext)) this.wrong.push("another plaintext came back");
  }

  async #decryptChanged(client: KmsClient, { sealed }: Kept): Promise<void> {
    const ciphertext = Buffer.from(sealed.ciphertext);
    const at = Math.floor(Math.random() * ciphertext.length);
    ciphertext[at] = (ciphertext[at] ?? 0) ^ (1 << Math.floor(Math.random() * 8));
    try {
      await client.decrypt({ ...sealed, ciphertext }, "soak");
    } catch (error) {
      if (error instanceof Error && REFUSED.test(error.message)) return;
      throw error;
    }
    this.wrong.push(`a ciphertext changed at byte ${at} was opened`);
  }
}
