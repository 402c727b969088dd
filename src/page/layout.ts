// The frame of every page: the document, its headers and its policy. A page loads no other resource, runs one script that
// requests the page again, and can change nothing.
import { createHash } from "node:crypto";
import { html, type Html } from "./html.js";
import { REFRESH } from "./refresh.js";
import { STYLE } from "./style.js";

/** A page as it is served. */
export interface RenderedPage {
  readonly body: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** The parts of a page. */
export interface PageParts {
  /** The state in a few words: the document's title and its first heading. */
  readonly headline: string;
  readonly kind: "ok" | "warn" | "fail";
  /** What is shown, such as the plugin's version. */
  readonly subject: Html;
  readonly content: Html;
  readonly foot: Html;
}

const ICON =
  "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath fill='%23607d8b' " +
  "d='M5 1a5 5 0 1 0 4 8h1l2 2 2-2 2 0v-3H9A5 5 0 0 0 5 1zm-1 3a2 2 0 1 1 0 4 2 2 0 0 1 0-4z'/%3E%3C/svg%3E";

const sourceHash = (text: string): string => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

const POLICY = [
  "default-src 'none'",
  `style-src ${sourceHash(STYLE)}`,
  `script-src ${sourceHash(REFRESH)}`,
  "img-src data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join("; ");

const HEADERS = {
  "content-security-policy": POLICY,
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
};

/** Returns the document. */
export function layOut({ headline, kind, subject, content, foot }: PageParts): RenderedPage {
  // Not through the `html` tag: style and script must stay as their hashes have them.
  const head = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="${ICON}">
${String(html`<title>${headline} · kms-pkcs11</title>`)}
<style>${STYLE}</style>
</head>`;
  const body = html`<body>
    <div id="live" data-state="${headline}">
      <header class="${kind}">
        <p class="subject">${subject}</p>
        <h1>${headline}</h1>
      </header>
      <main>${content}</main>
      <footer>${foot}</footer>
    </div>
    <aside aria-label="Refreshing">
      <p id="refresh" class="quiet">Reload the page to see a newer state.</p>
    </aside>
    <p id="notice" role="status"></p>
  </body>`;
  return { body: `${head}\n${String(body)}\n<script>${REFRESH}</script>\n</html>\n`, headers: HEADERS };
}
