// Which of the plugin's key templates a token accepts, which of their attributes it refuses, how long CKA_ID and
// CKA_LABEL may be, and whether a key's label can be changed. Every key is destroyed right after its use.
import { randomBytes } from "node:crypto";
import pkcs11js, { type Attribute, type Handle } from "pkcs11js";
import {
  LABEL_LENGTHS,
  type LengthTrial,
  type TemplateTrial,
  type TemplateTrials,
  type TrialLabel,
} from "../../hsm/wire-trials.js";
import { asNumber } from "../attributes.js";
import type { TokenFault } from "../ckr.js";
import { generateKey, keyTypesOf, type SecretKind } from "../secret-key-maker.js";
import { templates, type WantedKey } from "../secret-key-template.js";
import type { TokenSession } from "../session.js";
import { attributeName, formatAttribute } from "./attribute-names.js";
import { faultOutcome, outcomeOf } from "./outcome.js";
import { destroyNew, requireRemoved } from "./own-objects.js";

const ID_BYTES = 16;
const ID_LENGTHS = [1, 2, 4, 8, ID_BYTES, 20, 32, 64] as const;

/** A template that the token accepted. */
interface Accepted {
  readonly template: readonly Attribute[];
  readonly keyType: number;
}

/** Tries all kinds of secret keys. @throws TokenFault when a key cannot be removed, or the token is away */
export function tryTemplates(session: TokenSession, { label }: TrialLabel): TemplateTrials {
  const keys: TemplateTrial[] = [];
  let onToken: { readonly kind: SecretKind; readonly accepted: Accepted } | undefined;
  for (const kind of ["aes", "hmac"] as const) {
    for (const isOnToken of [false, true]) {
      const { trial, accepted } = tryKind(session, kind, {
        label,
        id: randomBytes(ID_BYTES),
        onToken: isOnToken,
      });
      keys.push(trial);
      if (isOnToken && accepted !== undefined) onToken ??= { kind, accepted };
    }
  }
  if (onToken === undefined) return { keys, lengths: [] };
  const { kind, accepted } = onToken;
  const make = new TrialKeys(session, kind, label);
  return {
    keys,
    lengths: [
      tryLengths(make, accepted.template, "CKA_ID", ID_LENGTHS, (bytes) => randomBytes(bytes)),
      tryLengths(make, accepted.template, "CKA_LABEL", LABEL_LENGTHS, (bytes) =>
        Buffer.from(label.padEnd(bytes, "x")),
      ),
    ],
    ...tryRelabelling(make, accepted.template, label),
  };
}

/** Makes keys, and destroys each after its use. */
class TrialKeys {
  readonly session: TokenSession;
  readonly #kind: SecretKind;
  readonly #label: string;

  constructor(session: TokenSession, kind: SecretKind, label: string) {
    this.session = session;
    this.#kind = kind;
    this.#label = label;
  }

  /** Returns the result of `use`, or the fault that refused the key. */
  with<T>(template: readonly Attribute[], use: (key: Handle) => T): { readonly made: T } | TokenFault {
    const key = generateKey(this.session, this.#kind, template);
    if (!key.ok) return key.fault;
    try {
      return { made: use(key.value) };
    } finally {
      this.remove(key.value);
    }
  }

  remove(key: Handle): void {
    requireRemoved(destroyNew(this.session, key, this.#label));
  }
}

function tryKind(
  session: TokenSession,
  kind: SecretKind,
  wanted: WantedKey,
): { readonly trial: TemplateTrial; readonly accepted?: Accepted } {
  const make = new TrialKeys(session, kind, wanted.label);
  const common = { kind, onToken: wanted.onToken };
  let full: TokenFault | undefined;
  for (const keyType of keyTypesOf(kind)) {
    const all = templates(kind, keyType, false, wanted);
    for (const template of all) {
      const made = make.with(template, (key) => bitsOf(session, key));
      if ("made" in made) {
        const refused = blame(make, template, all[0] ?? []);
        return {
          trial: {
            ...common,
            outcome: "ok",
            keyType: KEY_TYPES.get(keyType) ?? String(keyType),
            refused,
            ...(made.made !== undefined && { bits: made.made }),
          },
          accepted: { template, keyType },
        };
      }
      full ??= made;
      if (made.fault !== "setup" || made.code === "MECHANISM_UNSUPPORTED") break;
    }
  }
  return { trial: { ...common, outcome: full === undefined ? "ok" : faultOutcome(full), refused: [] } };
}

const KEY_TYPES = new Map([
  [pkcs11js.CKK_AES, "CKK_AES"],
  [pkcs11js.CKK_GENERIC_SECRET, "CKK_GENERIC_SECRET"],
  [0x2b, "CKK_SHA256_HMAC"],
]);

/** Adds each attribute of the full template that the accepted one lacks, and returns those that the token refuses. */
function blame(
  make: TrialKeys,
  accepted: readonly Attribute[],
  full: readonly Attribute[],
): TemplateTrial["refused"] {
  const lacking = full.filter(({ type }) => accepted.every((one) => one.type !== type));
  return lacking.flatMap((attribute) => {
    const made = make.with([...accepted, attribute], () => undefined);
    return "made" in made ? [] : [{ attribute: formatAttribute(attribute), outcome: faultOutcome(made) }];
  });
}

function bitsOf(session: TokenSession, key: Handle): number | undefined {
  const bytes = asNumber(read(session, key, pkcs11js.CKA_VALUE_LEN));
  return bytes === undefined ? undefined : 8 * bytes;
}

function read(session: TokenSession, key: Handle, type: number): Buffer | undefined {
  const out = session.attempt("reading an attribute (C_GetAttributeValue)", (handle) =>
    session.lib.C_GetAttributeValue(handle, key, [{ type }]),
  );
  const value = out.ok ? out.value[0]?.value : undefined;
  return Buffer.isBuffer(value) ? value : undefined;
}

function tryLengths(
  make: TrialKeys,
  template: readonly Attribute[],
  attribute: LengthTrial["attribute"],
  lengths: readonly number[],
  valueOf: (bytes: number) => Buffer,
): LengthTrial {
  const type = pkcs11js[attribute];
  const others = template.filter((one) => one.type !== type);
  let kept = 0;
  for (const bytes of lengths) {
    const value = valueOf(bytes);
    const made = make.with([...others, { type, value }], (key) => read(make.session, key, type));
    const outcome = !("made" in made)
      ? faultOutcome(made)
      : made.made === undefined
        ? `${attributeName(type)} cannot be read`
        : made.made.equals(value)
          ? "ok"
          : `the token keeps ${made.made.length} bytes`;
    if (outcome !== "ok") return { attribute, kept, refused: { bytes, outcome } };
    kept = bytes;
  }
  return { attribute, kept };
}

function tryRelabelling(
  make: TrialKeys,
  template: readonly Attribute[],
  label: string,
): Pick<TemplateTrials, "relabel" | "copy"> {
  const { session } = make;
  const change = [{ type: pkcs11js.CKA_LABEL, value: label.padEnd(LABEL_LENGTHS[0], "x") }];
  const modifiable = template.filter(({ type }) => type !== pkcs11js.CKA_MODIFIABLE);
  // With one key each: NSS softokn 3.87 lets the copy replace the original.
  const relabelled = make.with(modifiable, (key) =>
    outcomeOf(
      session.attempt("changing a label (C_SetAttributeValue)", (handle) => {
        session.lib.C_SetAttributeValue(handle, key, change);
      }),
    ),
  );
  const copied = make.with(modifiable, (key) => {
    const copy = session.attempt("copying a key (C_CopyObject)", (handle) =>
      session.lib.C_CopyObject(handle, key, [...change, { type: pkcs11js.CKA_TOKEN, value: true }]),
    );
    if (copy.ok) make.remove(copy.value);
    return outcomeOf(copy);
  });
  return "made" in relabelled && "made" in copied ? { relabel: relabelled.made, copy: copied.made } : {};
}
