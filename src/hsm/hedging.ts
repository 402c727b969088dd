// When a late request is sent again, and how often: the one place for the two hedgers of the HSM layer. Within a token,
// hosts/dispatcher.ts sends a second copy to another token host. Over tokens, failover/hedged-request.ts asks the next member.
//
// They meet in a failover set. With the default timeout the next token is asked first (300 ms), since another host of a slow
// token may be as slow; each token that has been asked then sends its own second copy. So a request makes at most
// COPIES_PER_TOKEN calls for each token that holds the KEK, and none that has not begun when an answer is there: the member's
// caller counts as gone then. Two things add to that. A token host repeats an operation whose result the token altered
// or whose session failed. A token that has lost a KEK and shows it again after a reload is asked once more.

/** Copies of one request that one token is sent, retries after a failure included. */
export const COPIES_PER_TOKEN = 2;

const OTHER_HOST_PART = 0.25;
const NEXT_TOKEN_PART = 0.4;
const NEXT_TOKEN_MOST_MS = 300;

/** Returns after how many ms without an answer a token's request is sent to another of its hosts. */
export function otherHostAfterMs(requestTimeoutMs: number): number {
  return OTHER_HOST_PART * requestTimeoutMs;
}

/** Returns after how many ms without an answer the next token is asked. */
export function nextTokenAfterMs(requestTimeoutMs: number): number {
  return Math.min(NEXT_TOKEN_MOST_MS, NEXT_TOKEN_PART * requestTimeoutMs);
}
