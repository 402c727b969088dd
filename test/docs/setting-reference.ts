// The page of all settings, generated from the schema: one section for each group of the document, at most 100 columns wide.

import { settingRows, type SettingRow } from "../../src/config/setting-rows.js";

const COLUMNS = 100;

/** Breaks text at spaces so that no line exceeds the page's width; a longer word keeps a line of its own. */
function wrapped(text: string): string {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= COLUMNS) {
      lines[lines.length - 1] = `${last} ${word}`;
    } else lines.push(word);
  }
  return lines.join("\n");
}

/** Returns a text so that Markdown shows it literally. */
const literal = (text: string): string => text.replaceAll(/[*_[\]<>]/g, String.raw`\$&`);

function entry(row: SettingRow): string {
  const preset =
    row.default === "required" || row.default === "none" ? row.default : `default \`${row.default}\``;
  const facts = wrapped(
    `${preset === "none" ? "optional" : preset}; ${literal(row.range).replaceAll("\\_", "_")}`,
  );
  return `### \`${row.path}\`\n\n${facts}\n\n${wrapped(`${row.description}.`)}`;
}

const groupOf = (path: string): string =>
  path.includes(".") ? (path.split(".", 1)[0] ?? path) : "The document";

/** Returns the page as Markdown. */
export function settingReference(): string {
  const groups = new Map<string, SettingRow[]>();
  for (const row of settingRows()) {
    const group = groupOf(row.path);
    groups.set(group, [...(groups.get(group) ?? []), row]);
  }
  const sections = [...groups].map(([group, rows]) => {
    const title = group === "The document" ? group : `\`${group.replace("[]", "")}\``;
    return `## ${title}\n\n${rows.map(entry).join("\n\n")}`;
  });
  return `# Settings\n\n[How to configure the plugin](../configuration.md) explains files, flags and PIN sources.\n\n${sections.join("\n\n")}\n`;
}
