// Shares the KEKs that one lane has found, and what its trials have discovered, with the other lanes of the token host, so
// that they need not repeat the search or the trial. The main thread passes the messages on (main.ts). All of it ends
// with the process, so nothing outlives a reload of the library or a change of the token.
import { receiveMessageOnPort, type MessagePort } from "node:worker_threads";
import type { Kek } from "./kek.js";
import { toShared, type SharedKek } from "./shared-kek.js";

/** Passes one lane's KEKs to the others of its token host and receives theirs. */
export class LaneExchange {
  readonly #port: MessagePort;
  readonly #received: Map<string, SharedKek>;
  /** The last message that this lane sent for each key_id. */
  readonly #sent = new Map<string, string>();

  /** @param earlier what the other lanes had sent before this one started */
  constructor(port: MessagePort, earlier: readonly SharedKek[]) {
    this.#port = port;
    this.#received = new Map(earlier.map((kek) => [kek.record.keyId, kek]));
  }

  /** Sends a KEK to the other lanes if it differs from what they know. */
  offer(kek: Kek): void {
    const shared = toShared(kek);
    const text = textOf(shared);
    const { keyId } = shared.record;
    const known = this.#received.get(keyId);
    if (this.#sent.get(keyId) === text || (known !== undefined && textOf(known) === text)) return;
    this.#sent.set(keyId, text);
    this.#port.postMessage(shared);
  }

  /** Returns what another lane knows of a KEK, by any of its key_ids; undefined if none knows it. */
  find(keyId: string): SharedKek | undefined {
    for (;;) {
      const next = receiveMessageOnPort(this.#port) as { readonly message: SharedKek } | undefined;
      if (next === undefined) break;
      this.#received.set(next.message.record.keyId, next.message);
    }
    return (
      this.#received.get(keyId) ??
      [...this.#received.values()].find(({ record }) => record.aliases.includes(keyId))
    );
  }
}

/** Returns handles and discoveries as text; the public keys of RSA keys follow from their handles. */
function textOf({ record, aes, hmac, decrypts, signs, discovered }: SharedKek): string {
  return JSON.stringify([record, aes, hmac, decrypts?.handle, signs?.handle, discovered]);
}
