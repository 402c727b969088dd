// The options of approvals: the policy, and the version that it has to begin with.
import { z } from "zod";
import { invalid } from "./invalid.js";
import { optionalText } from "./option.js";
import { checkAbsolutePath } from "./pin-source-name.js";

export const approvalsSection = z.strictObject({
  policy: optionalText({
    range: "an absolute path",
    read: checkAbsolutePath,
    why: "Policy that says who approves what; with it, a KEK becomes active on this node only with an approval in stateDir",
  }),
  root: optionalText({
    range: "sha256: and 64 hexadecimal digits",
    read: checkDigest,
    why: "Digest of the policy's first version, from `approvals policy verify`; every later version must follow from it",
  }),
});

function checkDigest(text: string): string {
  if (/^sha256:[0-9a-f]{64}$/.test(text)) return text;
  throw invalid("is not a digest; copy it from `approvals policy verify`");
}
