// The error for a request that the token host answered with a failure: besides what the caller is shown, it carries the
// fault class, by which the plugin decides whether to send the request again.
import { KmsError } from "../../errors.js";
import type { WireFailure } from "../wire-calls.js";

/** A KmsError with the failure that the token host reported, including what the plugin has to do about it. */
export class HostFailure extends KmsError {
  readonly failure: WireFailure;

  constructor(failure: WireFailure) {
    super(failure.code, failure.message, failure);
    this.failure = failure;
  }
}
