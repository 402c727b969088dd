// How to make a KEK with the tool of a token's vendor, for tokens that do not generate secret keys through PKCS#11.
// These are texts for the operator; nothing else depends on which token it is.
import type { PinSource } from "../config/pin-source.js";
import type { MechanismChoice } from "../hsm/mechanisms.js";
import type { TokenDescription } from "../hsm/port.js";

export interface VendorMadeKey {
  readonly token: TokenDescription | undefined;
  readonly label: string;
  readonly mechanism: MechanismChoice | "auto";
  readonly pin: PinSource;
}

interface VendorTool {
  /** Compared with the library's own description. */
  readonly library: RegExp;
  readonly mechanisms: readonly (MechanismChoice | "auto")[];
  readonly command: (key: VendorMadeKey) => string;
}

const TOOLS: readonly VendorTool[] = [
  {
    library: /TPM2/,
    mechanisms: ["auto", "hmac-kdf"],
    command: ({ token, label, pin }) =>
      `tpm2_ptool addkey --algorithm hmac:sha256 --label ${quoted(token?.label ?? "")} ` +
      `--key-label ${quoted(label)} --userpin ${pinArgument(pin)}`,
  },
];

const AES_KEY = "an AES key of 256 bits";
const HMAC_KEY = "an HMAC-SHA256 key (CKK_GENERIC_SECRET or CKK_SHA256_HMAC)";

const KEYS: Readonly<Record<MechanismChoice | "auto", string>> = {
  auto: `${HMAC_KEY} or ${AES_KEY}`,
  "aes-gcm": AES_KEY,
  "hmac-kdf": `${HMAC_KEY} of 256 bits`,
  "aes-kwp": AES_KEY,
  "aes-cbc-hmac": `an AES key and ${HMAC_KEY}, each of 256 bits and with the same CKA_ID,`,
  "rsa-oaep": "two RSA key pairs of 3072 bits with the same CKA_ID, one that decrypts and one that signs,",
};

/** Returns the command that makes the key, or else a description of the key that the vendor's tool has to make. */
export function vendorCommand(key: VendorMadeKey): string {
  const library = key.token?.library ?? "";
  const tool = TOOLS.find((one) => one.library.test(library) && one.mechanisms.includes(key.mechanism));
  if (tool !== undefined) return tool.command(key);
  return (
    `${KEYS[key.mechanism]} with CKA_LABEL ${quoted(key.label)}, ` +
    "CKA_TOKEN, CKA_PRIVATE and CKA_SENSITIVE true, CKA_EXTRACTABLE false" +
    (key.mechanism === "auto" ? "" : `, if the token performs ${key.mechanism}`)
  );
}

/** The PIN itself is never printed. */
function pinArgument(pin: PinSource): string {
  if (pin.kind === "file") return `"$(cat ${quoted(pin.path)})"`;
  return pin.kind === "env" ? `"$${pin.name}"` : "PIN";
}

/** Quotes a text for a POSIX shell if it needs quoting. */
function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
