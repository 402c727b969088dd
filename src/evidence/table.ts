// A table of the evidence page.
import { html, type Html, type HtmlValue } from "../page/html.js";

/** Returns a table. */
export function table(head: readonly string[], rows: readonly (readonly HtmlValue[])[]): Html {
  return html`<table>
    <thead>
      <tr>
        ${head.map((cell) => html`<th scope="col">${cell}</th>`)}
      </tr>
    </thead>
    <tbody>
      ${rows.map(
        (cells) =>
          html`<tr>
            ${cells.map((cell) => html`<td>${cell}</td>`)}
          </tr>`,
      )}
    </tbody>
  </table>`;
}
