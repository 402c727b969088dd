// A table of the evidence page, and a section without facts.
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

/** Returns a section about something that was not collected. */
export function notCollected(title: string, how: string): Html {
  return html`<h2>${title}</h2>
    <p class="warn">Not collected. Give ${how}.</p>`;
}
