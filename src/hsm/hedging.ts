// Decides when a late request is sent again, and how often, for both hedgers of the HSM layer. Within a token,
// hosts/dispatcher.ts sends a second copy to another token host. Across tokens, failover/hedged-request.ts asks the
// next member.
//
// In a failover set both apply. With the default timeout the next token is asked first (after 300 ms), since another
// host of a slow token may be as slow. Each token that has been asked then sends its own second copy. So a request
// makes at most COPIES_PER_TOKEN calls for each token that holds the KEK. Once an answer has arrived, no further call
// begins: the caller that the members see counts as cancelled. Two cases add calls. A token host repeats an operation
// whose result the token altered or whose session failed. A token that lost a KEK and shows it again after a reload is
// asked once more.

/** Maximum number of copies of one request sent to one token, retries after a failure included. */
export const COPIES_PER_TOKEN = 2;

const OTHER_HOST_PART = 0.25;
const NEXT_TOKEN_PART = 0.4;
const NEXT_TOKEN_MOST_MS = 300;

/** Returns the time without an answer after which a request is sent to another host of the same token, in ms. */
export function otherHostAfterMs(requestTimeoutMs: number): number {
  return OTHER_HOST_PART * requestTimeoutMs;
}

/** Returns the time without an answer after which the next token is asked, in ms. */
export function nextTokenAfterMs(requestTimeoutMs: number): number {
  return Math.min(NEXT_TOKEN_MOST_MS, NEXT_TOKEN_PART * requestTimeoutMs);
}
