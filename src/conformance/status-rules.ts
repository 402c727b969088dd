// Rules for Status: its fields, and how fast it answers.
import { require, TIMEOUT_MS, valueOf, type Connection, type PluginStatus, type Rule } from "./rule.js";

/** k8s.io/apiserver accepts 1024 bytes; its documentation says less than 1 kB. */
const MAX_KEY_ID_BYTES = 1023;
const REPEATS = 50;
const QUICK_MS = 100;

export const STATUS_RULES: readonly Rule[] = [
  {
    rule: "Status answers within 3 s",
    level: "must",
    check: async (connection) => {
      const answer = await connection.status();
      valueOf(answer, "Status");
      require(answer.ms < TIMEOUT_MS, `${answer.ms.toFixed(1)} ms`);
      return `${answer.ms.toFixed(1)} ms`;
    },
  },
  {
    rule: 'version is "v2"',
    level: "must",
    check: async (connection) => {
      const { version } = await status(connection);
      require(version === "v2", quote(version));
      return quote(version);
    },
  },
  {
    rule: 'healthz is exactly "ok"',
    level: "must",
    check: async (connection) => {
      const { healthz } = await status(connection);
      require(healthz === "ok", quote(healthz));
      return quote(healthz);
    },
  },
  {
    rule: "key_id has 1 to 1023 bytes",
    level: "must",
    check: async (connection) => {
      const bytes = Buffer.byteLength((await status(connection)).keyId);
      require(bytes >= 1 && bytes <= MAX_KEY_ID_BYTES, `${bytes} bytes`);
      return `${bytes} bytes`;
    },
  },
  {
    rule: "key_id is UTF-8",
    level: "must",
    check: async (connection) => {
      const { keyId } = await status(connection);
      // The decoder puts this character in place of invalid bytes.
      require(!keyId.includes("\uFFFD"), "has bytes that are not UTF-8; Go's protobuf refuses the answer");
      return quote(keyId);
    },
  },
  {
    rule: "key_id stays the same while nothing is rotated",
    level: "must",
    check: async (connection) => {
      const seen = new Set<string>();
      for (let at = 0; at < REPEATS; at++) seen.add((await status(connection)).keyId);
      require(seen.size === 1, `${seen.size} different ones in ${REPEATS} answers`);
      return `the same in ${REPEATS} answers`;
    },
  },
  {
    rule: "Status answers within 100 ms",
    level: "should",
    check: async (connection) => {
      const times: number[] = [];
      for (let at = 0; at < REPEATS; at++) times.push((await connection.status()).ms);
      const slowest = Math.max(...times);
      require(slowest < QUICK_MS, `slowest of ${REPEATS}: ${slowest.toFixed(1)} ms`);
      return `slowest of ${REPEATS}: ${slowest.toFixed(1)} ms`;
    },
  },
];

async function status(connection: Connection): Promise<PluginStatus> {
  return valueOf(await connection.status(), "Status");
}

/** Returns a plugin's text, short and on one line. */
function quote(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}...` : text);
}
