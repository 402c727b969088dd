// Keys that sign as ssh-keygen -Y sign does, in software and in this process; also as security keys (PROTOCOL.u2f), whose
// flags and counter a test chooses.

import { createHash, generateKeyPairSync, sign, type KeyObject } from "node:crypto";

import { wireString } from "../../src/approvals/wire-reader.js";

export interface SigningOptions {
  readonly namespace?: string;
  readonly hash?: string;
  readonly reserved?: string;
  readonly flags?: number;
  readonly algorithm?: string;
}

export interface SshSigner {
  /** The public key as a line, without a comment. */
  readonly line: string;
  readonly sign: (message: Uint8Array | string, options?: SigningOptions) => string;
}

type Type = "ssh-ed25519" | "sk-ssh-ed25519@openssh.com" | "sk-ecdsa-sha2-nistp256@openssh.com";

const sha256 = (bytes: Uint8Array | string): Buffer => createHash("sha256").update(bytes).digest();

/** Makes a key. */
export function sshSigner(type: Type = "ssh-ed25519", application = "ssh:"): SshSigner {
  const isSecurityKey = type.startsWith("sk-");
  const { publicKey, privateKey } = type.includes("ed25519")
    ? generateKeyPairSync("ed25519")
    : generateKeyPairSync("ec", { namedCurve: "P-256" });
  const { x = "", y } = publicKey.export({ format: "jwk" });
  const point = Buffer.from(x, "base64url");
  const material =
    y === undefined
      ? [wireString(point)]
      : [
          wireString("nistp256"),
          wireString(Buffer.concat([Buffer.from([4]), point, Buffer.from(y, "base64url")])),
        ];
  const key = Buffer.concat([
    wireString(type),
    ...material,
    ...(isSecurityKey ? [wireString(application)] : []),
  ]);
  return {
    line: `${type} ${key.toString("base64")}`,
    sign: (message, options = {}) => {
      const { namespace = "approval@kms-pkcs11", hash = "sha512", reserved = "", flags = 5 } = options;
      const context = [wireString(namespace), wireString(reserved), wireString(hash)];
      const digest = createHash(hash).update(message).digest();
      const signed = Buffer.concat([Buffer.from("SSHSIG"), ...context, wireString(digest)]);
      const touch = isSecurityKey ? Buffer.from([flags, 0, 0, 0, 7]) : Buffer.alloc(0);
      const data = isSecurityKey ? Buffer.concat([sha256(application), touch, sha256(signed)]) : signed;
      const signature = Buffer.concat([
        wireString(options.algorithm ?? type),
        wireString(signatureBytes(data, privateKey)),
        touch,
      ]);
      return armour(
        Buffer.concat([Buffer.from("SSHSIG\0\0\0\x01"), wireString(key), ...context, wireString(signature)]),
      );
    },
  };
}

/** Returns bytes armoured as ssh-keygen does. */
export function armour(bytes: Uint8Array): string {
  const lines =
    Buffer.from(bytes)
      .toString("base64")
      .match(/.{1,70}/g) ?? [];
  return `-----BEGIN SSH SIGNATURE-----\n${lines.join("\n")}\n-----END SSH SIGNATURE-----\n`;
}

/** Returns the bytes of an armoured signature. */
export function unarmoured(text: string): Buffer {
  return Buffer.from(text.split("\n").slice(1, -2).join(""), "base64");
}

function signatureBytes(data: Buffer, key: KeyObject): Buffer {
  if (key.asymmetricKeyType === "ed25519") return sign(null, data, key);
  const raw = sign("sha256", data, { key, dsaEncoding: "ieee-p1363" });
  return Buffer.concat([mpint(raw.subarray(0, 32)), mpint(raw.subarray(32))]);
}

function mpint(number: Buffer): Buffer {
  const bytes = number.subarray(number.findIndex((byte) => byte !== 0));
  return wireString((bytes[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes);
}
