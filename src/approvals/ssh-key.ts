// Reads public keys of SSH (RFC 4253, RFC 5656, RFC 8709, OpenSSH's PROTOCOL.u2f): one row for each type that may
// approve. DSA, the larger curves and certificates are refused. Keys are compared by their bytes, never by their names.
import { createHash, createPublicKey, type KeyObject } from "node:crypto";
import { refused } from "./refused.js";
import { WireReader } from "./wire-reader.js";

export const KEY_TYPES = [
  "ssh-ed25519",
  "ecdsa-sha2-nistp256",
  "ssh-rsa",
  "sk-ssh-ed25519@openssh.com",
  "sk-ecdsa-sha2-nistp256@openssh.com",
] as const;

export type KeyType = (typeof KEY_TYPES)[number];

/** A public key that may approve. */
export interface SshKey {
  readonly type: KeyType;
  readonly key: KeyObject;
  /** What a security key was registered for; undefined for other keys. */
  readonly application?: string;
  /** Length of an RSA modulus in bytes; undefined for other keys. */
  readonly modulusBytes?: number;
  /** The whole key in the encoding of SSH, in base64: its identity. */
  readonly value: string;
  /**
   * The point, or the modulus without a sign, in hexadecimal. Whoever has the private key of one key can sign for every key
   * with the same point or modulus, whatever its type, application or exponent.
   */
  readonly material: string;
}

/** Longest key in bytes: RSA with MOST_RSA_BITS, with some reserve. */
const MAX_KEY_BYTES = 2_048;
const LEAST_RSA_BITS = 3_072;
const MOST_RSA_BITS = 8_192;
const LEAST_EXPONENT = 65_537n;
const MOST_EXPONENT = 0xffff_ffffn;
/** OpenSSH registers security keys for applications that begin like this. */
const APPLICATION = /^ssh:[\x21-\x7e]{0,123}$/;

type KeyFields = Pick<SshKey, "key" | "material" | "application" | "modulusBytes">;

const READERS: Record<KeyType, (reader: WireReader) => KeyFields> = {
  "ssh-ed25519": (reader) => ed25519(reader),
  "ecdsa-sha2-nistp256": (reader) => nistp256(reader),
  "ssh-rsa": rsa,
  "sk-ssh-ed25519@openssh.com": (reader) => ({ ...ed25519(reader), application: application(reader) }),
  "sk-ecdsa-sha2-nistp256@openssh.com": (reader) => ({
    ...nistp256(reader),
    application: application(reader),
  }),
};

/** Reads a key in the encoding of SSH. @throws KmsError NOT_APPROVED if it is malformed, weak or of another type */
export function readKey(bytes: Buffer): SshKey {
  if (bytes.length > MAX_KEY_BYTES) throw refused("the key is too long");
  const reader = new WireReader(bytes);
  const name = reader.text();
  const type = KEY_TYPES.find((one) => one === name);
  if (type === undefined) {
    throw refused(`keys of type "${name}" cannot approve; use ed25519, ecdsa-p256, RSA or a security key`);
  }
  const fields = READERS[type](reader);
  reader.end();
  return { type, ...fields, value: bytes.toString("base64") };
}

/**
 * Reads a line as in authorized_keys and .pub files, without options: type, base64, and a comment that is ignored.
 * @throws KmsError NOT_APPROVED
 */
export function readKeyLine(line: string): SshKey {
  const [, name, base64 = ""] = /^(\S+) ([A-Za-z0-9+/]+={0,2})(?: [^\n]*)?\n?$/.exec(line) ?? [];
  if (name === undefined) throw refused("it is not a public key of SSH; give a .pub file");
  const key = readKey(canonicalBase64(base64));
  if (key.type !== name) throw refused("the key is of another type than its line says");
  return key;
}

/** Returns the key as a line without a comment. */
export function keyLine({ type, value }: Pick<SshKey, "type" | "value">): string {
  return `${type} ${value}`;
}

/** Returns the key's fingerprint as ssh-keygen -l shows it. */
export function fingerprintOf({ value }: Pick<SshKey, "value">): string {
  const digest = createHash("sha256").update(Buffer.from(value, "base64")).digest("base64");
  return `SHA256:${digest.replace(/=+$/, "")}`;
}

/** Decodes base64. @throws KmsError NOT_APPROVED if the text is not the only encoding of its bytes */
export function canonicalBase64(text: string): Buffer {
  const bytes = Buffer.from(text, "base64");
  if (bytes.toString("base64") !== text) throw refused("its base64 is not in the canonical form");
  return bytes;
}

function ed25519(reader: WireReader): KeyFields {
  const point = reader.string();
  if (point.length !== 32) throw refused("an ed25519 key has 32 bytes");
  if (isWeakPoint(point)) {
    throw refused("the ed25519 key is a point of small order, under which anybody can sign");
  }
  const jwk = { kty: "OKP", crv: "Ed25519", x: point.toString("base64url") };
  return { key: createPublicKey({ key: jwk, format: "jwk" }), material: withoutSign(point).toString("hex") };
}

/** The y coordinates of the points of small order, little-endian: under them anybody can make signatures. */
const SMALL_ORDER = new Set([
  `00${"00".repeat(31)}`,
  `01${"00".repeat(31)}`,
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  `ec${"ff".repeat(30)}7f`,
]);

/** Returns whether a point has small order, or a y coordinate that is not reduced (RFC 8032, section 5.1.3). */
function isWeakPoint(point: Buffer): boolean {
  const y = withoutSign(point);
  const isReduced =
    y.readUInt8(31) !== 0x7f || y.subarray(1, 31).some((byte) => byte !== 0xff) || y.readUInt8() < 0xed;
  return !isReduced || SMALL_ORDER.has(y.toString("hex"));
}

/** Returns the y coordinate of a point of ed25519, little-endian. */
function withoutSign(point: Buffer): Buffer {
  const y = Buffer.from(point);
  y.writeUInt8(y.readUInt8(31) & 0x7f, 31);
  return y;
}

function nistp256(reader: WireReader): KeyFields {
  const curve = reader.text();
  const point = reader.string();
  if (curve !== "nistp256" || point.length !== 65 || point.readUInt8() !== 4) {
    throw refused("an ecdsa key is an uncompressed point of nistp256");
  }
  const [x, y] = [point.subarray(1, 33), point.subarray(33)].map((part) => part.toString("base64url"));
  try {
    const jwk = { kty: "EC", crv: "P-256", x: x ?? "", y: y ?? "" };
    return { key: createPublicKey({ key: jwk, format: "jwk" }), material: point.toString("hex", 1, 33) };
  } catch (error) {
    throw refused("the ecdsa key is not a point of its curve", error);
  }
}

function rsa(reader: WireReader): KeyFields {
  const [e, n] = [reader.positive(), reader.positive()];
  const exponent = BigInt(`0x${e.toString("hex")}`);
  const modulus = BigInt(`0x${n.toString("hex")}`);
  const bits = modulus.toString(2).length;
  if (bits < LEAST_RSA_BITS || bits > MOST_RSA_BITS) {
    throw refused(`an RSA key has ${LEAST_RSA_BITS} to ${MOST_RSA_BITS} bits, not ${bits}`);
  }
  if (exponent < LEAST_EXPONENT || exponent > MOST_EXPONENT || exponent % 2n === 0n || modulus % 2n === 0n) {
    throw refused("the RSA key has an invalid modulus or exponent");
  }
  const jwk = { kty: "RSA", n: n.toString("base64url"), e: e.toString("base64url") };
  const key = createPublicKey({ key: jwk, format: "jwk" });
  return { key, modulusBytes: n.length, material: n.toString("hex") };
}

function application(reader: WireReader): string {
  const text = reader.text();
  if (APPLICATION.test(text)) return text;
  throw refused('the security key was registered for another application than "ssh:..."');
}
