// Rules for connections, as API servers use them: many concurrent calls, two connections while a configuration is
// reloaded, cancelled calls, and the `:authority` that they send.
import { randomBytes } from "node:crypto";
import { seal } from "./encrypt-rules.js";
import { isRefused, require, SEED_BYTES, TIMEOUT_MS, valueOf, type Connection, type Rule } from "./rule.js";

const CONCURRENT = 32;
const CANCELLED = 20;

export const CONNECTION_RULES: readonly Rule[] = [
  {
    rule: "32 concurrent round trips succeed, each within 3 s",
    level: "must",
    check: async (connection) => {
      const times = await Promise.all(Array.from({ length: CONCURRENT }, () => roundTrip(connection)));
      const slowest = Math.max(...times);
      require(slowest < TIMEOUT_MS, `slowest call: ${slowest.toFixed(1)} ms`);
      return `slowest call: ${slowest.toFixed(1)} ms`;
    },
  },
  {
    rule: "two concurrent connections are served, and each decrypts what the other encrypted",
    level: "must",
    check: async (connection, plugin) => {
      const other = plugin.connect();
      try {
        await Promise.all([roundTrip(connection, other), roundTrip(other, connection)]);
        return "both connections";
      } finally {
        other.close();
      }
    },
  },
  {
    rule: "cancelled calls do no harm",
    level: "must",
    check: async (connection) => {
      await Promise.all(
        Array.from({ length: CANCELLED }, () => connection.encrypt(randomBytes(SEED_BYTES), 1)),
      );
      valueOf(await connection.status(), "Status afterwards");
      await roundTrip(connection);
      return `${CANCELLED} calls with a deadline of 1 ms`;
    },
  },
  {
    rule: "Status has the same key_id after all these calls",
    level: "must",
    check: async (connection) => {
      const [sealed, status] = [await seal(connection), valueOf(await connection.status(), "Status")];
      require(status.healthz === "ok", `healthz is ${JSON.stringify(status.healthz)}`);
      require(status.keyId === sealed.keyId, `${JSON.stringify(status.keyId)} now`);
      return "the same";
    },
  },
  {
    rule: "the socket's path is accepted as :authority (API servers before kubernetes/kubernetes#126929)",
    level: "may",
    check: async (_connection, plugin) => {
      const older = plugin.connect(plugin.socketPath);
      try {
        const answer = await older.status();
        if (isRefused(answer)) require(false, `Status answers ${answer.refused}`);
        return "accepted";
      } finally {
        older.close();
      }
    },
  },
];

/** Returns the time of the slower call. */
async function roundTrip(from: Connection, to: Connection = from): Promise<number> {
  const seed = randomBytes(SEED_BYTES);
  const sealed = await from.encrypt(seed, TIMEOUT_MS);
  const opened = await to.decrypt(valueOf(sealed, "Encrypt"));
  require(valueOf(opened, "Decrypt").equals(seed), "the plaintext is different");
  return Math.max(sealed.ms, opened.ms);
}
