// One request over two tokens, within one deadline: the second is asked when the first fails or is late, and
// the first answer wins. What the other one still brings is wiped.
import { KmsError } from "../errors.js";

export type Ask = () => Promise<Buffer>;

export interface RelayOptions {
  readonly first: Ask;
  readonly second: Ask;
  readonly lateMs: number;
  /** Whether an error of the first is the answer: asking elsewhere would change nothing. */
  readonly isFinal: (error: KmsError) => boolean;
  readonly onFirstFailed: () => void;
}

/** @throws KmsError what the first failed with if that is final, else what the second did */
export async function relay({
  first,
  second,
  lateMs,
  isFinal,
  onFirstFailed,
}: RelayOptions): Promise<Buffer> {
  const asked = first().catch((thrown: unknown) => {
    const error = KmsError.from(thrown);
    if (isFinal(error)) throw new Final(error);
    onFirstFailed();
    throw error;
  });
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => {
      resolve(undefined);
    }, lateMs);
  });
  try {
    const prompt = await Promise.race([asked, late]).catch((error: unknown) => {
      if (error instanceof Final) throw error;
      return undefined;
    });
    if (prompt !== undefined) return prompt;
    return await firstOf(asked, second());
  } catch (error) {
    throw error instanceof Final ? error.reason : error;
  } finally {
    clearTimeout(timer);
  }
}

/** An error that another token would give too. */
class Final extends Error {
  readonly reason: KmsError;

  constructor(reason: KmsError) {
    super(reason.message);
    this.reason = reason;
  }
}

/** The first plaintext or body of two; the other one is wiped. */
async function firstOf(one: Promise<Buffer>, other: Promise<Buffer>): Promise<Buffer> {
  const both = [one, other];
  try {
    const won = await Promise.any(both);
    for (const each of both)
      void each.then((body) => (body === won ? undefined : body.fill(0))).catch(() => undefined);
    return won;
  } catch (error) {
    const reasons: unknown[] = error instanceof AggregateError ? error.errors : [error];
    throw reasons.find((reason) => reason instanceof Final) ?? reasons.at(-1);
  }
}
