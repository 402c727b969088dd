// Checks a running plugin against the KMS v2 contract, rule by rule. A broken rule does not prevent the others from
// being checked.
import { CONNECTION_RULES } from "./connection-rules.js";
import { DECRYPT_RULES } from "./decrypt-rules.js";
import { ENCRYPT_RULES } from "./encrypt-rules.js";
import { Violation, type Level, type Plugin, type Rule } from "./rule.js";
import { STATUS_RULES } from "./status-rules.js";

export interface Finding {
  readonly rule: string;
  readonly level: Level;
  readonly holds: boolean;
  readonly seen: string;
}

export const CONTRACT: readonly Rule[] = [
  ...STATUS_RULES,
  ...ENCRYPT_RULES,
  ...DECRYPT_RULES,
  ...CONNECTION_RULES,
];

/**
 * Returns one finding per rule.
 * @param onRule called after each rule with the number of rules that have been checked
 */
export async function checkContract(plugin: Plugin, onRule: (done: number) => void): Promise<Finding[]> {
  const connection = plugin.connect();
  const findings: Finding[] = [];
  try {
    for (const { rule, level, check } of CONTRACT) {
      try {
        findings.push({ rule, level, holds: true, seen: await check(connection, plugin) });
      } catch (error) {
        if (!(error instanceof Violation)) throw error;
        findings.push({ rule, level, holds: false, seen: error.message });
      }
      onRule(findings.length);
    }
  } finally {
    connection.close();
  }
  return findings;
}
