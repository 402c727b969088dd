// The configuration file: one YAML 1.2 document of a bounded size, with no duplicate keys and no aliases.
// Knows nothing of settings. No message repeats text from the file: a misplaced PIN may be anywhere in it.
import { closeSync, fstatSync, openSync } from "node:fs";
import {
  Composer,
  isAlias,
  isMap,
  isScalar,
  Lexer,
  LineCounter,
  Parser,
  visit,
  type CST,
  type Document,
  type DocumentOptions,
  type Node,
  type ParseOptions,
  type ScalarTag,
  type YAMLError,
  type SchemaOptions,
} from "yaml";
import { KmsError } from "../errors.js";
import { codeOf } from "../files/file-error.js";
import { readInto } from "../files/read-into.js";
import { READ_AT_ONCE } from "../files/regular-file.js";
import { invalid, invalidLines } from "./invalid.js";
import { positionsIn, type Positions } from "./positions.js";

const MAX_FILE_BYTES = 1024 * 1024;
const MAX_PROBLEMS = 20;
/** Counted in the concrete syntax, where a mapping in a list in a mapping is more than three levels. */
const MAX_NESTING = 32;
const WRITABLE_BY_OTHERS = 0o022;

export interface ConfigurationFile {
  /** Plain data; any value that YAML can express. */
  readonly document: unknown;
  readonly positions: Positions;
  /** Problems that do not prevent the use of the file. */
  readonly warnings: readonly string[];
}

/**
 * Reads and parses the plugin's configuration file.
 * @throws KmsError CONFIG_INVALID, one line per problem, with line and column for errors in the YAML
 */
export function readConfigurationFile(path: string): ConfigurationFile {
  const { bytes, warnings } = readBytes(path);
  return { ...parse(bytes, path, "1.2"), warnings };
}

/**
 * How plain scalars are read. Kubernetes reads YAML 1.1, in which on, y and 0o17 are not text, but without YAML 1.1's
 * times and sexagesimal numbers (go.yaml.in/yaml/v2).
 */
export type YamlDialect = "1.2" | "kubernetes";

const GO_OCTAL: ScalarTag = {
  tag: "tag:yaml.org,2002:int",
  default: true,
  test: /^[-+]?0o[0-7_]+$/,
  resolve: (text) => Number.parseInt(text.replace(/_|0o/g, ""), 8),
};
const DIALECTS: Record<YamlDialect, ParseOptions & DocumentOptions & SchemaOptions> = {
  "1.2": {},
  kubernetes: {
    version: "1.1",
    customTags: (tags) => [
      ...tags.filter(
        (tag) => typeof tag === "string" || !(tag.format === "TIME" || tag.tag.endsWith(":timestamp")),
      ),
      GO_OCTAL,
    ],
  },
};

/**
 * Returns the single YAML document in `bytes` as plain data.
 * @param path names the file in messages
 * @throws KmsError CONFIG_INVALID, one line per problem with line and column
 */
export function parseConfiguration(bytes: Uint8Array, path: string, dialect: YamlDialect = "1.2"): unknown {
  return parse(bytes, path, dialect).document;
}

function parse(
  bytes: Uint8Array,
  path: string,
  dialect: YamlDialect,
): { readonly document: unknown; readonly positions: Positions } {
  const lines = new LineCounter();
  const text = decode(bytes, path);
  try {
    const tokens = tokensOf(text, lines);
    if (tokens === undefined) {
      throw invalid(`${path}: is nested too deeply; a configuration needs four levels`);
    }
    // faultsOfContent finds duplicate keys: yaml's own check takes minutes for a mapping that fills a megabyte.
    const options = { ...DIALECTS[dialect], lineCounter: lines, prettyErrors: false, uniqueKeys: false };
    const documents = new Composer({ ...options, logLevel: "error" }).compose(tokens, true, text.length);
    // There always is one.
    const document = documents.next().value as Document.Parsed;
    const another = documents.next().value as Document.Parsed | undefined;
    const faults = [...faultsOfSyntax(document), ...faultsOfOther(another), ...faultsOfContent(document)];
    const texts = faults.map((fault) => lineOf(path, lines, fault));
    if (texts.length > 0) throw invalidLines(texts, MAX_PROBLEMS);
    if (document.contents === null) throw invalid(`${path}: is empty; begin it with apiVersion and kind`);
    return { document: document.toJS({ maxAliasCount: 0 }), positions: positionsIn(document, lines) };
  } catch (error) {
    if (error instanceof KmsError) throw error;
    throw invalid(`${path}: cannot be read as YAML; simplify it`, error);
  }
}

/**
 * Returns the text in the concrete syntax; undefined if it is nested too deeply. That is checked before composing, which is
 * recursive in yaml 2.9: near the end of the stack V8 aborts the process instead of throwing (Node 20, "RegExpCompiler
 * Allocation failed"). The lexer and the parser of the concrete syntax are not recursive.
 */
function tokensOf(text: string, lines: LineCounter): readonly CST.Token[] | undefined {
  const tokens: CST.Token[] = [];
  const parser = new Parser(lines.addNewLine);
  lines.addNewLine(0);
  for (const lexeme of new Lexer().lex(text)) {
    tokens.push(...parser.next(lexeme));
    if (parser.stack.length > MAX_NESTING) return undefined;
  }
  tokens.push(...parser.end());
  return tokens;
}

interface Fault {
  readonly offset: number;
  readonly text: string;
}

const SYNTAX_FAULTS: Readonly<Partial<Record<string, string>>> = {
  BAD_DQ_ESCAPE: "an unknown escape sequence in double quotes; use single quotes",
  BAD_INDENT: "the indentation does not match any line above; align it",
  BLOCK_AS_IMPLICIT_KEY: 'a second ": " on one line; put the value in quotes',
  MISSING_CHAR: "a closing quote, bracket, colon or comma is missing; add it",
  MULTILINE_IMPLICIT_KEY: 'a line without ": "; write it as name: value',
  TAB_AS_INDENT: "a tab indents this line; use spaces",
  TAG_RESOLVE_FAILED: "a tag (!) is not known; remove it, or put the value in quotes",
};

function faultsOfSyntax(document: Document.Parsed): Fault[] {
  return [...document.errors, ...document.warnings].map((error) => ({
    offset: error.pos[0],
    text: isOpenBracket(error)
      ? "a bracket before this is not closed; close it"
      : (SYNTAX_FAULTS[error.code] ?? "not valid YAML; correct this line"),
  }));
}

function faultsOfOther(another: Document.Parsed | undefined): Fault[] {
  const offset = another?.range[0];
  return offset === undefined ? [] : [{ offset, text: "a second document begins here; keep one" }];
}

/** yaml 2.9 reports a list or mapping in brackets that is not closed as badly indented. */
function isOpenBracket({ code, message }: YAMLError): boolean {
  return code === "BAD_INDENT" && message.startsWith("Flow ");
}

/**
 * Finds aliases, which could expand a small file into a huge document, and duplicate keys, one of which would be
 * ignored.
 */
function faultsOfContent(document: Document.Parsed): Fault[] {
  const faults: Fault[] = [];
  visit(document, (_key, node) => {
    if (isAlias(node)) {
      faults.push({ offset: offsetOf(node), text: "aliases (*) are refused; write the value out" });
    }
    if (!isMap(node)) return;
    const seen = new Set<string>();
    for (const { key } of node.items) {
      if (!isScalar(key)) {
        faults.push({
          offset: offsetOf(key as Node),
          text: "a key is not a plain name; write it as name: value",
        });
      } else if (seen.has(String(key.value))) {
        faults.push({ offset: offsetOf(key), text: "this key appears twice; keep one" });
      } else seen.add(String(key.value));
    }
  });
  return faults;
}

function offsetOf(node: Node | null): number {
  return node?.range?.[0] ?? 0;
}

function lineOf(path: string, lines: LineCounter, { offset, text }: Fault): string {
  const { line, col } = lines.linePos(offset);
  return `${path}:${line}:${col}: ${text}`;
}

function decode(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    throw invalid(`${path}: is not UTF-8 text; save it as UTF-8`, error);
  }
}

function readBytes(path: string): { bytes: Buffer; warnings: string[] } {
  try {
    const file = openSync(path, READ_AT_ONCE);
    try {
      return { warnings: warningsAbout(path, file), bytes: readAll(path, file) };
    } finally {
      closeSync(file);
    }
  } catch (error) {
    if (error instanceof KmsError) throw error;
    const code = codeOf(error);
    throw invalid(
      `${path}: cannot be read (${code}); name a readable file with --config or $KMS_PKCS11_CONFIG`,
      error,
    );
  }
}

function warningsAbout(path: string, file: number): string[] {
  const stat = fstatSync(file);
  if (!stat.isFile()) throw invalid(`${path}: is not a regular file; give a YAML file to --config`);
  const warnings: string[] = [];
  const danger = "could make the plugin load another library";
  if ((stat.mode & WRITABLE_BY_OTHERS) !== 0) {
    warnings.push(`${path} can be written by others, who ${danger}; chmod go-w it`);
  }
  if (stat.uid !== 0 && stat.uid !== process.getuid?.()) {
    warnings.push(`${path} belongs to another user (uid ${stat.uid}), who ${danger}; chown it to root`);
  }
  return warnings;
}

function readAll(path: string, file: number): Buffer {
  const bytes = Buffer.alloc(MAX_FILE_BYTES + 1);
  const length = readInto(file, bytes);
  if (length <= MAX_FILE_BYTES) return bytes.subarray(0, length);
  throw invalid(`${path}: is longer than 1 MiB; give a configuration file`);
}
