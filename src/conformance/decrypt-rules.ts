// Rules for Decrypt, above all for what it must refuse. A plugin that decrypts changed input returns a key that was
// never stored, or lets anybody who can write to etcd choose one.
import { randomBytes } from "node:crypto";
import { requireMedian, seal } from "./encrypt-rules.js";
import {
  isRefused,
  require,
  SEED_BYTES,
  valueOf,
  Violation,
  type Connection,
  type Rule,
  type Sealed,
} from "./rule.js";

const OTHER_SIZES = [1, 16, 24, 48, 64, 256];
/** Number of bytes of a ciphertext in which a bit is flipped, evenly spread. */
const FLIPS = 24;
const TIMES = 20;
const TARGET_MS = 10;
/** The status codes that mean that repeating the request is useless. */
const FINAL_CODES = ["INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"];

export const DECRYPT_RULES: readonly Rule[] = [
  {
    rule: "a 32-byte seed comes back",
    level: "must",
    check: async (connection) => roundTrip(connection, [SEED_BYTES]),
  },
  {
    rule: "plaintexts of other sizes come back",
    level: "should",
    check: async (connection) => roundTrip(connection, OTHER_SIZES),
  },
  {
    rule: "a ciphertext decrypts again and again",
    level: "must",
    check: async (connection) => {
      const seed = randomBytes(SEED_BYTES);
      const sealed = await seal(connection, seed);
      for (let at = 0; at < TIMES; at++) {
        require(valueOf(await connection.decrypt(sealed), "Decrypt").equals(
          seed,
        ), "the plaintext is different");
      }
      return `${TIMES} times`;
    },
  },
  {
    rule: "a ciphertext with a flipped bit is refused",
    level: "must",
    check: async (connection) => {
      const sealed = await seal(connection);
      return requireRefusals(connection, [...flipped(sealed)]);
    },
  },
  {
    rule: "a shorter, longer or empty ciphertext is refused",
    level: "must",
    check: async (connection) => {
      const sealed = await seal(connection);
      const { ciphertext } = sealed;
      const others = [ciphertext.subarray(0, -1), Buffer.concat([ciphertext, Buffer.of(0)]), Buffer.alloc(0)];
      return requireRefusals(
        connection,
        others.map((other) => ({ ...sealed, ciphertext: other })),
      );
    },
  },
  {
    rule: "another or an empty key_id is refused",
    level: "must",
    check: async (connection) => {
      const sealed = await seal(connection);
      const others = [`${sealed.keyId}x`, "no-such-key", ""];
      return requireRefusals(
        connection,
        others.map((keyId) => ({ ...sealed, keyId })),
      );
    },
  },
  {
    rule: "changed, missing or foreign annotations are refused",
    level: "should",
    check: async (connection) => {
      const sealed = await seal(connection);
      return requireRefusals(connection, [...otherAnnotations(sealed)]);
    },
  },
  {
    rule: "refusals have a status code that says that a retry is useless",
    level: "should",
    check: async (connection) => {
      const sealed = await seal(connection);
      const bad = [...flipped(sealed).slice(0, 1), { ...sealed, keyId: "no-such-key" }];
      const seen: string[] = [];
      for (const one of bad) {
        const answer = await connection.decrypt(one);
        seen.push(isRefused(answer) ? answer.refused : "OK");
      }
      require(seen.every((status) => FINAL_CODES.includes(status)), seen.join(", "));
      return seen.join(", ");
    },
  },
  {
    rule: "Decrypt takes less than 10 ms",
    level: "should",
    check: async (connection) => {
      const times: number[] = [];
      for (let at = 0; at < TIMES; at++) times.push((await connection.decrypt(await seal(connection))).ms);
      return requireMedian(times, TARGET_MS);
    },
  },
];

async function roundTrip(connection: Connection, sizes: readonly number[]): Promise<string> {
  for (const size of sizes) {
    const plaintext = randomBytes(size);
    const sealed = await seal(connection, plaintext);
    const opened = valueOf(await connection.decrypt(sealed), `Decrypt of ${size} bytes`);
    require(opened.equals(plaintext), `${size} bytes came back changed`);
  }
  return `${sizes.join(", ")} bytes`;
}

/** Returns the refusals in words. @throws Violation if one of the requests is decrypted */
async function requireRefusals(connection: Connection, requests: readonly Sealed[]): Promise<string> {
  const seen = new Set<string>();
  for (const request of requests) {
    const answer = await connection.decrypt(request);
    if (!isRefused(answer)) throw new Violation(`one of ${requests.length} was decrypted`);
    seen.add(answer.refused);
  }
  return `${requests.length} refused: ${[...seen].join(", ")}`;
}

function flipped(sealed: Sealed): Sealed[] {
  const { length } = sealed.ciphertext;
  const positions = Array.from({ length: Math.min(FLIPS, length) }, (_, at) =>
    Math.floor((at * (length - 1)) / Math.max(1, Math.min(FLIPS, length) - 1)),
  );
  return positions.map((position, at) => ({
    ...sealed,
    ciphertext: flipBit(sealed.ciphertext, position, at % 8),
  }));
}

function* otherAnnotations(sealed: Sealed): Generator<Sealed> {
  const { annotations } = sealed;
  yield { ...sealed, annotations: { ...annotations, "conformance.example.com": Buffer.of(1) } };
  for (const [name, value] of Object.entries(annotations)) {
    const others = Object.fromEntries(Object.entries(annotations).filter(([other]) => other !== name));
    yield { ...sealed, annotations: others };
    const changed = value.length === 0 ? Buffer.of(1) : flipBit(value, value.length - 1, 0);
    yield { ...sealed, annotations: { ...annotations, [name]: changed } };
  }
}

function flipBit(bytes: Buffer, position: number, bit: number): Buffer {
  const changed = Buffer.from(bytes);
  changed[position] = (changed[position] ?? 0) ^ (1 << bit);
  return changed;
}
