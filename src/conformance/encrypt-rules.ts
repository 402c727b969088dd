// Rules for Encrypt: what kube-apiserver checks before it accepts a result (k8s.io/apiserver, envelope/kmsv2), and what
// its cache relies on.
import { randomBytes } from "node:crypto";
import { isRefused, require, SEED_BYTES, valueOf, type Connection, type Rule, type Sealed } from "./rule.js";

const MAX_CIPHERTEXT_BYTES = 1023;
const MAX_ANNOTATIONS_BYTES = 32 * 1024;
/** IsFullyQualifiedDomainName of k8s.io/apimachinery: two labels or more, in lower case. */
const DOMAIN_NAME = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+\.?$/;
const TIMES = 20;
const TARGET_MS = 100;

export const ENCRYPT_RULES: readonly Rule[] = [
  {
    rule: "Encrypt accepts a 32-byte seed",
    level: "must",
    check: async (connection) => `${(await seal(connection)).ciphertext.length} bytes of ciphertext`,
  },
  {
    rule: "Encrypt's key_id is that of Status",
    level: "must",
    check: async (connection) => {
      const [before, { keyId }] = [await connection.status(), await seal(connection)];
      const known = valueOf(before, "Status").keyId;
      require(keyId === known, `Encrypt says ${JSON.stringify(keyId)}, Status ${JSON.stringify(known)}`);
      return "the same";
    },
  },
  {
    rule: "ciphertext has 1 to 1023 bytes",
    level: "must",
    check: async (connection) => {
      const { length } = (await seal(connection)).ciphertext;
      require(length >= 1 && length <= MAX_CIPHERTEXT_BYTES, `${length} bytes`);
      return `${length} bytes`;
    },
  },
  {
    rule: "the keys of annotations are domain names in lower case without a slash",
    level: "must",
    check: async (connection) => {
      const names = Object.keys((await seal(connection)).annotations);
      const wrong = names.filter((name) => !DOMAIN_NAME.test(name));
      require(wrong.length === 0, wrong.map((name) => JSON.stringify(name)).join(", "));
      return names.length === 0 ? "no annotations" : names.join(", ");
    },
  },
  {
    rule: "annotations have at most 32 KiB together",
    level: "must",
    check: async (connection) => {
      const { annotations } = await seal(connection);
      const bytes = Object.entries(annotations).reduce(
        (sum, [key, value]) => sum + key.length + value.length,
        0,
      );
      require(bytes <= MAX_ANNOTATIONS_BYTES, `${bytes} bytes`);
      return `${bytes} bytes`;
    },
  },
  {
    rule: "different plaintexts give different results",
    level: "must",
    check: async (connection) => distinct(connection, () => randomBytes(SEED_BYTES)),
  },
  {
    rule: "one plaintext gives different results",
    level: "should",
    check: async (connection) => distinct(connection, () => Buffer.alloc(SEED_BYTES, 1)),
  },
  {
    rule: "the result does not contain the plaintext",
    level: "must",
    check: async (connection) => {
      const seed = randomBytes(SEED_BYTES);
      const { ciphertext, annotations } = await seal(connection, seed);
      const parts = [ciphertext, ...Object.values(annotations)];
      require(!parts.some((bytes) => bytes.includes(seed)), "the result contains the seed in clear");
      return "not contained";
    },
  },
  {
    rule: "an empty plaintext is refused or comes back",
    level: "should",
    check: async (connection) => {
      const sealed = await connection.encrypt(Buffer.alloc(0));
      if (isRefused(sealed)) {
        require(sealed.refused === "INVALID_ARGUMENT", `refused with ${sealed.refused}`);
        return "refused with INVALID_ARGUMENT";
      }
      const opened = valueOf(await connection.decrypt(sealed.value), "Decrypt");
      require(opened.length === 0, `${opened.length} bytes come back`);
      return "comes back";
    },
  },
  {
    rule: "Encrypt takes less than 100 ms",
    level: "should",
    check: async (connection) => {
      const times: number[] = [];
      for (let at = 0; at < TIMES; at++) times.push((await connection.encrypt(randomBytes(SEED_BYTES))).ms);
      return requireMedian(times, TARGET_MS);
    },
  },
];

/** Returns the result of Encrypt. @throws Violation if it is refused */
export async function seal(
  connection: Connection,
  seed: Uint8Array = randomBytes(SEED_BYTES),
): Promise<Sealed> {
  return valueOf(await connection.encrypt(seed), "Encrypt");
}

/** Returns the median in words. @throws Violation unless it is below `targetMs` */
export function requireMedian(times: readonly number[], targetMs: number): string {
  const median = [...times].sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0;
  const seen = `median of ${times.length}: ${median.toFixed(1)} ms`;
  require(median < targetMs, seen);
  return seen;
}

async function distinct(connection: Connection, plaintext: () => Buffer): Promise<string> {
  const results = new Set<string>();
  for (let at = 0; at < TIMES; at++) {
    const { ciphertext, keyId, annotations } = await seal(connection, plaintext());
    const notes = Object.entries(annotations).map(([key, value]) => `${key}=${value.toString("hex")}`);
    results.add([ciphertext.toString("hex"), keyId, ...notes.sort()].join());
  }
  require(results.size === TIMES, `${results.size} different ones of ${TIMES}`);
  return `${TIMES} of ${TIMES}`;
}
