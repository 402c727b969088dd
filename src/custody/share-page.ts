// One page for one custodian: the share as text to type and as a QR code to scan, and what it belongs to. For a terminal
// as text, for a printer as HTML.
import { renderSVG, renderUnicodeCompact } from "uqr";
import { escapeHtml } from "../untrusted-text.js";
import { encodeShare, groupText, type Share } from "./share.js";
import type { SealedPin } from "./sealed-pin.js";

const GROUPS_IN_LINE = 6;
/** Between the text and the QR code, in columns. */
const GAP = 3;
/** Narrower text would break the lines of a share. */
const MIN_TEXT_COLUMNS = 40;

interface PageContent {
  readonly title: string;
  readonly about: readonly string[];
  readonly lines: readonly string[];
  /** In upper case, which makes a smaller QR code. */
  readonly code: string;
}

/**
 * Returns the page as text, with a QR code of block characters. The code stands beside the text if `columns` allow it: the
 * page then fits 80 columns and 24 lines, and nothing that has to be copied scrolls off the screen.
 */
export function textPage(share: Share, sealed: SealedPin, columns: number): string {
  const { title, about, lines, code } = contentOf(share, sealed);
  const picture = renderUnicodeCompact(code, { ecc: "M" }).split("\n");
  const beside = columns - (picture[0]?.length ?? 0) - GAP;
  const isWide = beside >= MIN_TEXT_COLUMNS;
  const width = isWide ? beside : Math.max(columns, MIN_TEXT_COLUMNS);
  const text = [title, "", ...about, "", ...lines.map((line) => `    ${line}`)].flatMap((line) =>
    wrap(line, width),
  );
  if (!isWide) return [...text, "", ...picture, ""].join("\n");
  const rows = Array.from({ length: Math.max(text.length, picture.length) }, (_, at) =>
    `${(text[at] ?? "").padEnd(beside + GAP)}${picture[at] ?? ""}`.trimEnd(),
  );
  return [...rows, ""].join("\n");
}

/** Breaks a line between words; a longer word stays whole. */
function wrap(line: string, width: number): string[] {
  return line.length <= width
    ? [line]
    : (line.match(new RegExp(`.{1,${width}}(?= |$)|\\S+`, "gu")) ?? []).map((part) => part.trimStart());
}

/** Returns the page as an HTML document that needs no other file. */
export function htmlPage(share: Share, sealed: SealedPin): string {
  const { title, about, lines, code } = contentOf(share, sealed);
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>${escapeHtml(title)}</title>
<style>
@page { size: A4; margin: 25mm }
body { font: 12pt sans-serif; max-width: 16cm }
pre { font: bold 14pt monospace; line-height: 1.6 }
svg { width: 6cm; height: 6cm }
</style>
<h1>${escapeHtml(title)}</h1>
${about.map((line) => `<p>${escapeHtml(line)}</p>`).join("\n")}
<pre>${lines.join("\n")}</pre>
${renderSVG(code, { ecc: "M" })}
</html>
`;
}

function contentOf(share: Share, sealed: SealedPin): PageContent {
  const text = encodeShare(share);
  const [prefix = "", ...groups] = groupText(text);
  const code = text.toString("latin1").toUpperCase();
  text.fill(0);
  const lines: string[] = [prefix];
  for (let at = 0; at < groups.length; at += GROUPS_IN_LINE) {
    lines.push(groups.slice(at, at + GROUPS_IN_LINE).join(" "));
  }
  return {
    title: `kms-pkcs11: share ${share.index} of ${sealed.shares.length}`,
    about: [
      `For the PIN of ${sealed.token || "the token"}; set ${share.set}, epoch ${share.epoch}.`,
      `Any ${share.threshold} of the ${sealed.shares.length} shares open it; fewer reveal nothing.`,
      "Keep this page where nobody else reads it. Enter it only in kms-pkcs11 unlock --share or kms-pkcs11 custody.",
    ],
    lines,
    code,
  };
}
