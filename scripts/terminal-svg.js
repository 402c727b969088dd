// Draws a recorded terminal session as an SVG: its lines appear as they did, with long pauses shortened, and stay. Readers
// who prefer reduced motion see the last frame. Readable on light and dark pages, since it has its own background.

/** Width in columns; longer lines are wrapped. */
const COLUMNS = 100;
const COLUMN = 7.83;
const LINE = 19;
const MARGIN = 16;
/** Longest pause between two lines, in seconds. */
const MAX_PAUSE = 1.1;
/** Time for reading a command before its output, in seconds. */
const READING = 0.7;

const STYLE = `
rect{fill:#1b1f23}
text{font:13px/1 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#dfe3e6;white-space:pre}
.p{fill:#6cc79a}.c{fill:#fff;font-weight:600}.q{fill:#98a3ab}
g{opacity:0;animation:a .01s forwards}
@keyframes a{to{opacity:1}}
@media (prefers-reduced-motion:reduce){g{animation-delay:0s!important}}`;

/**
 * Returns the SVG.
 * @param title what the recording shows, for readers who cannot see it
 * @param lines each with its text, the time at which it appeared in ms, and whether it is a command or a remark
 */
export function terminalSvg(title, lines) {
  const rows = lines.flatMap(wrapped);
  const height = rows.length * LINE + 2 * MARGIN;
  const width = Math.ceil(COLUMNS * COLUMN + 2 * MARGIN);
  const times = delays(rows);
  const drawn = rows.map((row, at) => {
    const y = MARGIN + at * LINE + 14;
    return `<g style="animation-delay:${times[at].toFixed(2)}s"><text x="${MARGIN}" y="${y}">${content(row)}</text></g>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" role="img" aria-label="${escaped(title)}">
<title>${escaped(title)}</title>
<style>${STYLE}</style>
<rect width="${width}" height="${height}" rx="8"/>
${drawn.join("\n")}
</svg>
`;
}

/** Breaks at spaces if it can. */
function wrapped({ text, ...rest }) {
  const rows = [];
  let left = text;
  while (left.length > COLUMNS) {
    const space = left.lastIndexOf(" ", COLUMNS);
    const end = space > COLUMNS / 2 ? space : COLUMNS;
    rows.push({ ...rest, text: left.slice(0, end), isFirst: rows.length === 0 });
    left = `    ${left.slice(end).trimStart()}`;
  }
  return [...rows, { ...rest, text: left, isFirst: rows.length === 0 }];
}

function delays(rows) {
  let at = 0;
  return rows.map((row, index) => {
    const before = rows[index - 1];
    const pause = before === undefined ? 0.3 : (row.atMs - before.atMs) / 1000;
    const least = before?.kind === "command" && row.kind !== "command" ? READING : 0.03;
    at += Math.min(MAX_PAUSE, Math.max(least, pause));
    return at;
  });
}

function content({ text, kind, isFirst }) {
  if (kind === "command") {
    return `${isFirst ? '<tspan class="p">$ </tspan>' : ""}<tspan class="c">${escaped(text)}</tspan>`;
  }
  return kind === "remark" ? `<tspan class="q">${escaped(text)}</tspan>` : escaped(text);
}

function escaped(text) {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
