// The configuration file as text: one YAML document of a bounded size, without duplicate keys or aliases.
import { readFileSync, statSync } from "node:fs";
import { LineCounter, parseAllDocuments } from "yaml";
import { KmsError } from "../errors.js";

const MAX_FILE_BYTES = 1024 * 1024;
const GROUP_AND_OTHERS_MAY_WRITE = 0o022;

export interface ConfigurationFile {
  readonly document: Readonly<Record<string, unknown>>;
  readonly warnings: readonly string[];
}

/** @throws KmsError CONFIG_INVALID with line and column */
export function readConfigurationFile(path: string): ConfigurationFile {
  const { text, warnings } = read(path);
  return { document: parseConfiguration(text, path), warnings };
}

function read(path: string): { text: string; warnings: string[] } {
  try {
    const { size, mode } = statSync(path);
    if (size > MAX_FILE_BYTES)
      throw invalid(`${path}: longer than ${String(MAX_FILE_BYTES)} bytes; is it a configuration?`);
    const open = (mode & GROUP_AND_OTHERS_MAY_WRITE) !== 0;
    return {
      text: readFileSync(path, "utf8"),
      warnings: open
        ? [
            `${path} can be written to by others, who could point the plugin at their own module; chmod go-w it`,
          ]
        : [],
    };
  } catch (error) {
    if (error instanceof KmsError) throw error;
    throw invalid(`${path}: cannot be read (${(error as NodeJS.ErrnoException).code ?? "error"})`, error);
  }
}

/** Returns the one mapping that the text holds. @throws KmsError CONFIG_INVALID */
export function parseConfiguration(text: string, path: string): Readonly<Record<string, unknown>> {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines, uniqueKeys: true });
  const [document, ...more] = Array.isArray(documents) ? documents : [];
  if (document === undefined) throw invalid(`${path}: is empty; it should hold a PluginConfiguration`);
  if (more.length > 0) throw invalid(`${path}: holds several YAML documents; keep one`);
  if (document.errors.length > 0) {
    throw invalid(
      document.errors
        .map((error) => {
          const { line, col } = lines.linePos(error.pos[0]);
          return `${path}:${String(line)}:${String(col)}: ${error.message.split("\n", 1)[0] ?? ""}`;
        })
        .join("\n"),
    );
  }
  const value = toPlain(document, path);
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw invalid(`${path}: should be a mapping that begins with apiVersion and kind`);
}

function toPlain(document: { toJS: (options: { maxAliasCount: number }) => unknown }, path: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 0 });
  } catch (error) {
    throw invalid(`${path}: uses YAML aliases or keys that cannot be read; write the values out`, error);
  }
}

function invalid(message: string, cause?: unknown): KmsError {
  return new KmsError("CONFIG_INVALID", message, cause);
}
