// Wraps the prose of a help text for a narrow terminal. Commander wraps the descriptions of options only.
import { Help } from "commander";

/** A line that is at least this long, in characters, continues in the next one: the source wraps at 128. */
const FILLED = 100;

/**
 * Returns the text with its paragraphs wrapped between words. Indented lines, such as examples to copy, stay as they are.
 * @param columns of the terminal
 */
export function wrapHelp(text: string, columns: number): string {
  const help = new Help();
  return joinFilled(text.split("\n"))
    .map((line) => (isProse(line) ? help.boxWrap(line, columns) : line))
    .join("\n");
}

function joinFilled(lines: readonly string[]): string[] {
  const joined: string[] = [];
  let continues = false;
  for (const line of lines) {
    if (continues && isProse(line)) joined.push(`${joined.pop() ?? ""} ${line}`);
    else joined.push(line);
    continues = isProse(line) && line.length >= FILLED;
  }
  return joined;
}

function isProse(line: string): boolean {
  return /^\S/.test(line);
}
