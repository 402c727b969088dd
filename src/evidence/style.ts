// The style sheet of the evidence page: made for A4, and readable on a screen.

/** The style sheet's text. */
export const STYLE = `
@page { size: A4; margin: 18mm 16mm; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem; max-width: 50rem; color: #1b1f23; background: #fff;
  font: 10.5pt/1.45 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7em; margin: 0 0 .2em; }
h2 { font-size: 1.2em; margin: 1.6em 0 .5em; padding-bottom: .15em; border-bottom: 1px solid #9aa4ad; break-after: avoid; }
p, table, svg { margin: 0 0 .7em; }
table { width: 100%; border-collapse: collapse; font-size: .92em; }
thead { display: table-header-group; }
th { white-space: nowrap; overflow-wrap: normal; min-width: 4.5em; }
th, td { text-align: left; vertical-align: top; padding: .22em .6em .22em 0; border-bottom: 1px solid #d9dee2; }
tr, svg { break-inside: avoid; }
code { font: .9em ui-monospace, Menlo, Consolas, monospace; }
.quiet { color: #55606a; }
.ok { color: #14613a; } .warn { color: #7a4a00; font-weight: 600; } .fail { color: #a4221b; font-weight: 600; }
.chart { width: 100%; height: auto; font: 11px system-ui, Arial, sans-serif; }
.chart text { fill: #1b1f23; } .chart .tick line { stroke: #d9dee2; } .chart .tick text { fill: #55606a; }
.chart rect { fill: #8a96a0; } .chart rect.active { fill: #2f8a5b; } .chart rect.standby { fill: #4c7dc9; }
.chart rect.refused { fill: #b3261e; } .chart .limit { stroke: #a4221b; stroke-width: 2; }
.chart .now { stroke: #1b1f23; stroke-dasharray: 3 3; }
@media print { body { max-width: none; padding: 0; } a { color: inherit; text-decoration: none; } }
`;
