// Counts the objects of a few batches in this thread, as a counting thread would: starting one takes longer.
import { KmsError } from "../../errors.js";
import type { Seeds } from "../seeds.js";
import type { Batch } from "../store.js";
import { Counting } from "./counting.js";
import { receivedError, sentOutcome, type FromThread, type Kind, type Parts, type Task } from "./messages.js";

/** Returns the result. @throws KmsError as a counting thread does */
export async function countHere(
  task: Task,
  batches: readonly Batch[],
  seeds: Seeds | undefined,
): Promise<Parts[Kind]> {
  return new Promise((resolve, reject) => {
    const answer = async ({ id, question }: FromThread & { kind: "seed" }): Promise<void> => {
      if (seeds === undefined) throw new KmsError("INTERNAL", "no DEK seed was expected to be needed");
      await counting.receive({ kind: "seed", id, outcome: sentOutcome(await seeds.get(question)) });
    };
    const counting = new Counting(task, (message) => {
      if (message.kind === "part") resolve(message.part);
      else if (message.kind === "failure") reject(receivedError(message.failure));
      else if (message.kind === "seed") answer(message).catch(reject);
    });
    const counted = batches.map(({ bytes }) => counting.receive({ kind: "batch", bytes: ownBytes(bytes) }));
    Promise.all(counted)
      .then(() => counting.receive({ kind: "end" }))
      .catch(reject);
  });
}

/** Returns bytes in a buffer that can be given away; that of small ones may be Node's pool. */
export function ownBytes(bytes: Buffer): Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset, length } = bytes;
  const isOwn = buffer instanceof ArrayBuffer && length > Buffer.poolSize;
  return isOwn ? new Uint8Array(buffer, byteOffset, length) : new Uint8Array(bytes);
}
