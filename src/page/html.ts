// HTML in which every value is escaped by construction: labels on a shared token, a node's answers and a report's
// names are written by others. There is no way to insert markup except through the `html` tag itself.
import { escapeHtml, oneLine } from "../untrusted-text.js";

/** Markup that is safe to insert into a page. */
export class Html {
  readonly #markup: string;

  constructor(parts: TemplateStringsArray, values: readonly HtmlValue[]) {
    this.#markup = parts.reduce((markup, part, at) => markup + markupOf(values[at - 1]) + part);
  }

  toString(): string {
    return this.#markup;
  }
}

/** What a template may contain; undefined and false add nothing. */
export type HtmlValue = string | number | undefined | false | Html | readonly HtmlValue[];

/** Returns markup. Values may be placed in text and in quoted attributes, not in tags, styles, scripts or links. */
export function html(parts: TemplateStringsArray, ...values: readonly HtmlValue[]): Html {
  return new Html(parts, values);
}

function markupOf(value: HtmlValue): string {
  if (value === undefined || value === false) return "";
  if (value instanceof Html) return value.toString();
  if (typeof value === "object") return value.map(markupOf).join("");
  // Also shows characters that a browser hides or obeys, such as those that reverse the direction of writing.
  return escapeHtml(oneLine(String(value)));
}
