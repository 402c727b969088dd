// What `init` asks, as a document: kind InitValues. Reads a file of such values and reports every problem with file,
// line and column. No message repeats a value: a PIN may have been written in the wrong place.
import { LineCounter, parseDocument, stringify } from "yaml";
import { z } from "zod";
import { parseConfiguration } from "../config/file.js";
import { invalid, invalidLines } from "../config/invalid.js";
import { OPTIONS } from "../config/option.js";
import { MAX_OBJECT_NAME_LENGTH } from "../config/pkcs11-uri.js";
import { positionsIn, type Positions } from "../config/positions.js";
import { similarName } from "../config/similar-name.js";
import { codeOf } from "../files/file-error.js";
import { KmsError } from "../errors.js";
import { readRegular } from "../files/regular-file.js";
import { HSMS } from "./hsm-needs.js";

const API_VERSION = "kms-pkcs11.dev/v1";
const KIND = "InitValues";
const MAX_BYTES = 64 * 1024;
const MAX_LINES = 20;

export const DISTRIBUTIONS = ["kubeadm", "k3s", "rke2", "talos"] as const;
export const RUNTIMES = ["static-pod", "systemd"] as const;
export const NODES = ["one", "several"] as const;
export const PINS = ["file", "encrypted-credential"] as const;

const choice = <const Value extends string>(values: readonly Value[], description: string) =>
  z.enum(values).register(OPTIONS, { kind: "choice", range: values.join(", "), description });
const text = (pattern: RegExp, range: string, description: string) =>
  z.string().regex(pattern).register(OPTIONS, { kind: "text", range, description });
const optional = <Schema extends z.ZodType>(schema: Schema) => schema.optional();

/** Needs no quotes in YAML, in a unit and in a shell. */
const PLAIN_PATH = /^(\/[A-Za-z0-9_.+-]+)+$/;

const FIELDS = {
  apiVersion: z.literal(API_VERSION).register(OPTIONS, { kind: "text", range: API_VERSION, description: "" }),
  kind: z.literal(KIND).register(OPTIONS, { kind: "text", range: KIND, description: "" }),
  hsm: choice(HSMS, "Which HSM holds the KEK?"),
  distribution: choice(DISTRIBUTIONS, "Which Kubernetes distribution runs the API server?"),
  runtime: choice(RUNTIMES, "How does the plugin run?"),
  nodes: choice(NODES, "How many control-plane nodes does the cluster have?"),
  token: optional(
    text(
      /^[\x21-\x7e]([\x20-\x7e]{0,30}[\x21-\x7e])?$/,
      "1 to 32 printable characters",
      "Label of the token",
    ),
  ),
  object: optional(
    text(
      new RegExp(`^[A-Za-z0-9._-]{1,${MAX_OBJECT_NAME_LENGTH}}$`),
      `1 to ${MAX_OBJECT_NAME_LENGTH} letters, digits, dots, dashes and underscores`,
      "Name of the KEK",
    ),
  ),
  library: optional(text(PLAIN_PATH, "an absolute path", "Path of the vendor's PKCS#11 library")),
  pin: optional(choice(PINS, "Where is the PIN stored?")),
  resources: optional(
    z
      .array(z.string().regex(/^[a-z0-9*]+(\.[a-z0-9*][a-z0-9.-]*)?$/))
      .min(1)
      .max(50)
      .register(OPTIONS, {
        kind: "list",
        range: "a list such as [secrets, configmaps]",
        description: "Resources that the API server encrypts",
      }),
  ),
  image: optional(text(/^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}$/, "an image name", "Image of the static pod")),
  groupId: optional(
    z.int().min(1).max(4294967294).register(OPTIONS, {
      kind: "integer",
      range: "the number of a group",
      description: "Number of the group that may use the HSM; looked up on the node if not given",
    }),
  ),
} as const;

const valuesSchema = z.strictObject(FIELDS);
type Field = keyof typeof FIELDS;

export type Values = z.output<typeof valuesSchema>;
/** The values without the document's head, as an operator answers them. */
export type Answers = Omit<Values, "apiVersion" | "kind">;

/** Returns the question that a value answers. */
export function questionOf(name: keyof Answers): string {
  return metaOf(FIELDS[name])?.description ?? name;
}

/** @throws KmsError CONFIG_INVALID, one line per problem: "file:line:column: what is wrong; what to do" */
export function readValues(path: string): Values {
  let bytes: Buffer;
  try {
    bytes = readRegular(path, MAX_BYTES);
  } catch (error) {
    if (error instanceof KmsError) throw error;
    throw invalid(`${path}: cannot be read (${codeOf(error)}); give a readable file to --values`, error);
  }
  return parseValues(bytes, path);
}

/** Returns the values in `bytes`, the content of the file at `path`. @throws KmsError CONFIG_INVALID */
export function parseValues(bytes: Uint8Array, path: string): Values {
  const document = parseConfiguration(bytes, path);
  const result = valuesSchema.safeParse(document);
  const problems = result.success
    ? conflictsOf(result.data)
    : result.error.issues.flatMap((issue) => problemsOf(issue, document));
  if (result.success && problems.length === 0) return result.data;
  const positions = positionsOf(bytes);
  const lines = problems.map(({ at, text }) => {
    const { line, column } = positions(at);
    return `${path}:${line}:${column}: ${text}`;
  });
  throw invalidLines(lines, MAX_LINES);
}

/** Returns the reason why a value cannot be used; undefined if it can. */
export function answerProblem(name: keyof Answers, value: unknown): string | undefined {
  return FIELDS[name].safeParse(value).success ? undefined : `give ${metaOf(FIELDS[name])?.range ?? ""}`;
}

/** @throws KmsError CONFIG_INVALID if the answers contradict each other */
export function requireConsistent(answers: Answers): void {
  const conflicts = conflictsOf(answers).map(({ at, text }) => `${at.join(".")}: ${text}`);
  if (conflicts.length > 0) throw invalidLines(conflicts, MAX_LINES);
}

/** Returns the answers as the text of a values file, in the order of the schema. */
export function valuesText(answers: Answers): string {
  const { apiVersion, kind, ...given } = valuesSchema.parse({
    ...answers,
    apiVersion: API_VERSION,
    kind: KIND,
  });
  return `# The answers to kms-pkcs11 init. The same on every node: kms-pkcs11 init --values FILE\n${stringify({ apiVersion, kind, ...given })}`;
}

interface Problem {
  readonly at: readonly PropertyKey[];
  readonly text: string;
}

function conflictsOf({ hsm, distribution, runtime, nodes, pin }: Answers): Problem[] {
  const found: Problem[] = [];
  if (distribution === "k3s" && runtime === "static-pod") {
    const text =
      "k3s starts static pods only after its API server is ready, which waits for the plugin; give systemd";
    found.push({ at: ["runtime"], text });
  }
  if (distribution === "talos" && runtime === "systemd") {
    found.push({ at: ["runtime"], text: "Talos accepts no other units; give static-pod" });
  }
  if (distribution === "talos" && hsm === "tpm2") {
    const text =
      "a pod reaches a TPM through tpm2-abrmd on D-Bus, which Talos does not have; give another HSM";
    found.push({ at: ["hsm"], text });
  }
  if (pin === "encrypted-credential" && runtime === "static-pod") {
    found.push({ at: ["pin"], text: "only systemd decrypts a credential; give file, or runtime: systemd" });
  }
  if (hsm === "tpm2" && nodes === "several") {
    const text =
      "the KEK of a TPM cannot be cloned to another node, which then cannot read the objects; give one";
    found.push({ at: ["nodes"], text });
  }
  return found;
}

function problemsOf(issue: z.core.$ZodIssue, document: unknown): Problem[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((name) => {
      const similar = similarName(name, Object.keys(FIELDS));
      const hint =
        similar === undefined ? `give one of ${Object.keys(FIELDS).join(", ")}` : `did you mean ${similar}?`;
      return { at: [name], text: `this is not a value of init; ${hint}` };
    });
  }
  const [name] = issue.path;
  if (name === undefined) return [{ at: [], text: "is not a mapping; begin it with apiVersion and kind" }];
  const isMissing = (document as Record<PropertyKey, unknown>)[name] === undefined;
  const what = isMissing ? "is missing" : "is not valid";
  return [
    { at: issue.path, text: `${String(name)} ${what}; give ${metaOf(FIELDS[name as Field])?.range ?? ""}` },
  ];
}

function metaOf(schema: z.ZodType) {
  return (
    OPTIONS.get(schema) ??
    (schema instanceof z.ZodOptional ? OPTIONS.get(schema.unwrap() as z.ZodType) : undefined)
  );
}

function positionsOf(bytes: Uint8Array): Positions {
  const lineCounter = new LineCounter();
  return positionsIn(parseDocument(new TextDecoder().decode(bytes), { lineCounter }), lineCounter);
}
