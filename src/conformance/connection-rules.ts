// How a plugin has to bear what API servers do with connections: many calls at once, two connections while a
// configuration is reloaded, calls that are given up, and the `:authority` that they send.
import { randomBytes } from "node:crypto";
import { seal } from "./encrypt-rules.js";
import { isRefused, require, SEED_BYTES, TIMEOUT_MS, valueOf, type Connection, type Rule } from "./rule.js";

const AT_ONCE = 32;
const GIVEN_UP = 20;

export const CONNECTION_RULES: readonly Rule[] = [
  {
    rule: "32 round trips at once succeed, each within 3 s",
    level: "must",
    check: async (connection) => {
      const times = await Promise.all(Array.from({ length: AT_ONCE }, () => roundTrip(connection)));
      const slowest = Math.max(...times);
      require(slowest < TIMEOUT_MS, `slowest call: ${slowest.toFixed(1)} ms`);
      return `slowest call: ${slowest.toFixed(1)} ms`;
    },
  },
  {
    rule: "two connections are served at once, each what the other sealed",
    level: "must",
    check: async (connection, plugin) => {
      const other = plugin.connect();
      try {
        await Promise.all([roundTrip(connection, other), roundTrip(other, connection)]);
        return "they are";
      } finally {
        other.close();
      }
    },
  },
  {
    rule: "calls that are given up do no harm",
    level: "must",
    check: async (connection) => {
      await Promise.all(
        Array.from({ length: GIVEN_UP }, () => connection.encrypt(randomBytes(SEED_BYTES), 1)),
      );
      valueOf(await connection.status(), "Status afterwards");
      await roundTrip(connection);
      return `${GIVEN_UP} calls with 1 ms`;
    },
  },
  {
    rule: "Status has the same key_id after all this",
    level: "must",
    check: async (connection) => {
      const [sealed, status] = [await seal(connection), valueOf(await connection.status(), "Status")];
      require(status.healthz === "ok", `healthz is ${JSON.stringify(status.healthz)}`);
      require(status.keyId === sealed.keyId, `${JSON.stringify(status.keyId)} now`);
      return "it has";
    },
  },
  {
    rule: "the socket's path is taken as :authority (API servers before kubernetes/kubernetes#126929)",
    level: "may",
    check: async (_connection, plugin) => {
      const older = plugin.connect(plugin.socketPath);
      try {
        const answer = await older.status();
        if (isRefused(answer)) require(false, `Status answers ${answer.refused}`);
        return "it is";
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
  require(valueOf(opened, "Decrypt").equals(seed), "another plaintext came back");
  return Math.max(sealed.ms, opened.ms);
}
