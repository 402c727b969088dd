// The option of commands that a policy may require an approval for.
import type { Command } from "commander";

export interface ApprovalOption {
  readonly approval?: string;
}

/** Adds --approval. */
export function addApprovalOption(command: Command): Command {
  return command.option(
    "--approval <file>",
    "approval by the people whom approvals.policy names; checked immediately before the operation",
  );
}
