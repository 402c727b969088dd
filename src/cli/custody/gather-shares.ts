// Takes shares from custodians until a sealed PIN can be opened. Each share is judged alone; a wrong one is named and the
// next one is taken.
import { describeFault, type Gathering } from "../../custody/gathering.js";
import { KmsError } from "../../errors.js";
import type { Terminal } from "../output.js";
import type { Entered } from "./enter-shares.js";

/**
 * Takes shares until one of several sealed PINs of a set can be opened, and returns it.
 * @param among each share is judged by the sealed PIN of its epoch or, if there is none, by the first
 * @throws KmsError INPUT_INVALID if the shares end before
 */
export async function gatherShares(
  entries: AsyncGenerator<Entered>,
  among: readonly Gathering[],
  terminal: Terminal,
): Promise<Gathering> {
  for (;;) {
    const complete = among.find(({ missing }) => missing === 0);
    if (complete !== undefined) return complete;
    const next = await entries.next();
    if (next.done === true) throw new KmsError("INPUT_INVALID", "not enough correct shares were entered");
    judge(next.value, among, terminal);
  }
}

function judge(entered: Entered, among: readonly Gathering[], terminal: Terminal): void {
  const { entry, share } = entered;
  if (share === undefined) {
    terminal.err(`entry ${entry}: ${entered.problem}`);
    return;
  }
  const gathering = among.find(({ sealed }) => sealed.epoch === share.epoch) ?? among[0];
  if (gathering === undefined) return;
  const { sealed } = gathering;
  const fault = gathering.add(share);
  if (fault !== undefined) terminal.err(`entry ${entry}: ${describeFault(fault, share, sealed)}`);
  const epoch = among.length > 1 ? ` of epoch ${sealed.epoch}` : "";
  terminal.err(`${gathering.count} of ${sealed.threshold} shares${epoch}`);
}
