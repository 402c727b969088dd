// The pages' style sheet: light and dark, from 320 pixels of width up, without fonts or images.

/** The style sheet's text; the policy names its hash. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --ground: #fcfcfb; --text: #1f2428; --quiet: #5c666e; --line: #dfe2e4; --bar: #c3cad0;
  --ok: #17693f; --warn: #8a5300; --fail: #b3261e; --standby: #2458a6;
  --ok-bar: #3f9a6b; --standby-bar: #5b8bd6; --warn-bar: #d08a1d; --well: #f0f2f3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14171a; --text: #e3e6e8; --quiet: #98a3ab; --line: #2c3338; --bar: #46525b;
    --ok: #6cc79a; --warn: #e5ad57; --fail: #ff8a80; --standby: #8db6f5;
    --ok-bar: #3f9a6b; --standby-bar: #4c7dc9; --warn-bar: #c98621; --well: #1d2226;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 62rem; background: var(--ground); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
}
h1 { font-size: 1.9rem; line-height: 1.2; font-weight: 600; letter-spacing: -0.01em; margin: 0; }
h2 { font-size: 1.05rem; line-height: 1.3; font-weight: 600; margin: 0 0 .75rem; }
h3 { font-size: 1rem; font-weight: 600; margin: 0; }
p, dl, ul, ol, table, pre { margin: 0 0 .75rem; }
a { color: var(--standby); text-underline-offset: .15em; }
a:focus-visible, button:focus-visible, [tabindex]:focus-visible { outline: 2px solid var(--standby); outline-offset: 2px; }
code, pre { font: .875em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
pre { background: var(--well); padding: .6rem .75rem; border-radius: 6px; overflow-x: auto; overflow-wrap: normal; }
header { border-left: 4px solid var(--ok); padding: .1rem 0 .1rem .9rem; }
header.warn { border-color: var(--warn); }
header.fail { border-color: var(--fail); }
header.fail h1 { color: var(--fail); }
header.warn h1 { color: var(--warn); }
.subject { color: var(--quiet); font-size: .9rem; margin: 0 0 .15rem; }
section { border-top: 1px solid var(--line); margin-top: 1.75rem; padding-top: 1.1rem; }
.pair { display: grid; column-gap: 2.5rem; }
.quiet, .facts, footer { color: var(--quiet); font-size: .9rem; }
.facts > *:not(:last-child)::after { content: "\\00a0\\00b7"; }
.facts > * { display: inline-block; margin-right: .3em; }
.facts { margin-bottom: .25rem; }
ul, ol { list-style: none; padding: 0; }
.finding { border-left: 3px solid var(--warn); padding: .1rem 0 .1rem .7rem; margin: .35rem 0; font-size: .95rem; }
.finding.fail { border-color: var(--fail); }
.finding.fail::before, .finding.warn::before { content: "! "; font-weight: 700; color: var(--warn); }
.finding.fail::before { color: var(--fail); }
.some { color: var(--fail); font-weight: 600; }
.state { color: var(--quiet); font-size: .85rem; font-weight: 600; }
.state.active, .state.ok { color: var(--ok); }
.state.due, .state.warn { color: var(--warn); }
.state.standby { color: var(--standby); }
.state.fail { color: var(--fail); }
.kek { padding: .65rem 0; }
.kek + .kek { border-top: 1px solid var(--line); }
.kek .name { margin: 0 0 .15rem; }
.kek .name .state { display: inline-block; min-width: 4.2rem; }
svg { display: block; overflow: visible; }
.axis text { fill: var(--quiet); font-size: .75rem; }
.axis line { stroke: var(--line); }
.axis .now { fill: var(--text); font-weight: 600; }
line.now, .axis line.now { stroke: var(--text); stroke-width: 1.5; }
.bar { margin: .3rem 0 .4rem; }
.bar .past { fill: var(--bar); }
.bar .ahead { fill: none; stroke: var(--bar); stroke-dasharray: 4 3; }
.active .bar .past { fill: var(--ok-bar); }
.active .bar .ahead { stroke: var(--ok-bar); }
.due .bar .past { fill: var(--warn-bar); }
.standby .bar .past { fill: var(--standby-bar); }
.standby .bar .ahead { stroke: var(--standby-bar); stroke-width: 1.5; }
.node { padding: .75rem 0; }
.node + .node { border-top: 1px solid var(--line); }
.node h3 { margin: 0 0 .35rem; }
.node dl > div { border-bottom: 0; padding: .05rem 0; justify-content: flex-start; }
.node dt { flex: 0 0 5.5rem; }
.node dd { text-align: left; }
dl { display: grid; grid-template-columns: 1fr; }
dl > div { display: flex; justify-content: space-between; gap: 1rem; padding: .2rem 0; border-bottom: 1px solid var(--line); }
dl > div:last-child { border-bottom: 0; }
dt { flex: none; color: var(--quiet); font-size: .9rem; }
dd { margin: 0; text-align: right; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: right; padding: .3rem 0 .3rem .75rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th:first-child { text-align: left; padding-left: 0; font-weight: 400; }
thead th { color: var(--quiet); font-size: .85rem; font-weight: 400; }
td { white-space: nowrap; }
td.wide { white-space: normal; }
th.wide, td.wide { text-align: left; padding-left: 1.5rem; }
th .state { white-space: nowrap; }
footer { border-top: 1px solid var(--line); margin-top: 1.75rem; padding-top: 1rem; }
footer p { margin: 0 0 .25rem; }
nav a + a { margin-left: 1rem; }
button { font: inherit; color: var(--text); background: none; border: 1px solid var(--line); border-radius: 6px; padding: .25rem .7rem; cursor: pointer; }
button:hover { border-color: var(--quiet); }
#refresh { margin: .5rem 0 0; }
#notice { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.stale #live { opacity: .55; }
.stale #refresh span { color: var(--fail); font-weight: 600; }
@media (max-width: 40rem) { th.wide, td.wide { display: none; } }
@media (min-width: 48rem) {
  body { padding: 2.5rem 2rem 4rem; }
  .pair { grid-template-columns: 1fr 1fr; }
  .health dl { grid-template-columns: 1fr 1fr; column-gap: 2.5rem; }
  .health dl > div:nth-last-child(2):nth-child(odd) { border-bottom: 0; }
}
`;
