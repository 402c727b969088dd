// Performs a trial of a token report by its name.
import type { Kek } from "../kek.js";
import type { TrialName, TrialRequest, Trials } from "../../hsm/wire-trials.js";
import { PERFORMERS } from "../mechanisms/table.js";
import type { TokenSession } from "../session.js";
import { readFacts } from "./facts.js";
import { tryAttributes } from "./key-attributes.js";
import { measure } from "./latencies.js";
import { tryMechanism } from "./mechanism.js";
import { outcomeOfWork } from "./outcome.js";
import { ownKeys, removeOwn } from "./own-objects.js";
import { trySearches } from "./searches.js";
import { trySessions } from "./sessions.js";
import { tryTemplates } from "./templates.js";

/** What a trial uses of its lane. */
export interface TrialLane {
  readonly session: TokenSession;
  /** Runs work with a KEK, after searching for it if it is not known. @throws TokenFault KEY_MISSING */
  withKek<T>(keyId: string, use: (kek: Kek) => T): T;
  /** Returns a KEK by the handles that an earlier reading found. */
  known(keyId: string): Kek | undefined;
}

type Performed = {
  readonly [N in TrialName]: (lane: TrialLane, request: Trials[N]["request"]) => Trials[N]["reply"];
};

const TEXT = Buffer.from("kms-pkcs11 token report");

const TRIALS: Performed = {
  describe: ({ session }) => readFacts(session),
  templates: ({ session }, request) => tryTemplates(session, request),
  searches: ({ session }, request) => trySearches(session, request),
  count: ({ session }, request) => ({ found: ownKeys(session, request).keys.length }),
  attributes: (lane, { keyId }) => lane.withKek(keyId, (kek) => tryAttributes(lane.session, kek)),
  mechanism: (lane, { keyId, choice }) =>
    lane.withKek(keyId, (kek) => tryMechanism(lane.session, kek, choice)),
  sessions: ({ session }, request) => trySessions(session, request),
  handle: (lane, { keyId, mechanism }) => {
    const kek = lane.known(keyId);
    if (kek === undefined) return {};
    const outcome = outcomeOfWork(() => PERFORMERS[mechanism].encrypt(lane.session, kek, TEXT, TEXT));
    return { outcome };
  },
  latencies: (lane, request) => lane.withKek(request.keyId, (kek) => measure(lane.session, kek, request)),
  remove: ({ session }, request) => removeOwn(session, request),
};

/** Performs one trial and returns its reply. @throws TokenFault */
export function performTrial(lane: TrialLane, request: TrialRequest): Trials[TrialName]["reply"] {
  // The compiler does not relate the request to the function of the same name.
  const perform = TRIALS[request.trial] as (one: TrialLane, what: TrialRequest) => Trials[TrialName]["reply"];
  return perform(lane, request);
}
