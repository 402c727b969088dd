// The output of `approvals`: policies, proposals and who signed them.
import { z } from "zod";
import { policySchema } from "../../approvals/policy.js";
import { proposalSchema } from "../../approvals/proposal.js";
import { count, next, type Printed } from "./printed.js";

const approvers = z.array(z.string()).describe("approvers other than the proposer who signed");
const needed = count.describe("approvers that the policy requires");
const digest = z.string().describe("sha256: and 64 hexadecimal digits");

export const policyInitOutput = z.object({ file: z.string(), version: z.int(), digest, next });
export type PolicyInitOutput = Printed<typeof policyInitOutput>;

export const policySignOutput = z.object({
  file: z.string(),
  version: z.int(),
  signedBy: z.array(z.string()),
  needed,
  next,
});
export type PolicySignOutput = Printed<typeof policySignOutput>;

export const policyVerifyOutput = z.object({
  versions: z.array(
    z.object({
      version: z.int(),
      digest,
      own: z.array(z.string()).describe("approvers of this version who signed it"),
      ownNeeded: count,
      before: z.array(z.string()).describe("approvers of the previous version who signed it"),
      beforeNeeded: count,
    }),
  ),
  policy: policySchema.optional().describe("the latest version"),
});
export type PolicyVerifyOutput = Printed<typeof policyVerifyOutput>;

export const proposeOutput = z.object({ file: z.string(), proposal: proposalSchema, next });
export type ProposeOutput = Printed<typeof proposeOutput>;

export const signOutput = z.object({ file: z.string(), approvers, needed, next });
export type SignOutput = Printed<typeof signOutput>;

export const showOutput = z.object({
  proposal: proposalSchema,
  isProposed: z.boolean().describe("whether the proposer signed"),
  approvers,
  needed,
  missing: count,
  isExpired: z.boolean(),
  isApproved: z.boolean(),
});
export type ShowOutput = Printed<typeof showOutput>;

export const deliverOutput = z.object({
  delivered: z.object({ keyId: z.string().nullable(), approvers, digest }),
  next,
});
export type DeliverOutput = Printed<typeof deliverOutput>;

export const deliverToNodesOutput = z.object({
  keyId: z.string().nullable(),
  nodes: z.array(
    z.object({
      url: z.string(),
      delivered: z.boolean().describe("whether this command stored it there; false for a node without ssh"),
      approved: z
        .boolean()
        .nullable()
        .describe("whether the node's plugin may activate the KEK; null if that is unknown"),
      problem: z.string().nullable().describe("what is wrong, or what to do"),
    }),
  ),
});
export type DeliverToNodesOutput = Printed<typeof deliverToNodesOutput>;
