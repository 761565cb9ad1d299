"""Pure. The report: one HTML file with everything in it, nothing loaded from anywhere."""

import html
from collections.abc import Sequence
from string import Template
from typing import Final

from driftwell.tools.whatif.results import COLUMNS, LEGEND, Report, Result, cells, remarks

_PAGE: Final = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>whatif: $recording</title>
<style>
:root { color-scheme: light dark; --ink: #1c2421; --paper: #fff; --line: #d5dcd8; --soft: #f2f5f3;
  --bad: #a3321b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e9e6; --paper: #161b19; --line: #3a4541; --soft: #212826; --bad: #ff9b85; }
}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--ink); background: var(--paper); }
h1 { font-size: 1.6rem; margin-bottom: .2rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
.model { margin-top: 0; font-family: ui-monospace, monospace; font-size: .8rem; opacity: .75; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .86rem; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th { vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
tr.front td { background: var(--soft); }
tr.failed td { color: var(--bad); text-align: left; white-space: normal; }
ul { padding-left: 1.2rem; font-size: .9rem; }
svg { max-width: 70rem; width: 100%; height: auto; }
</style>
</head>
<body>
<h1>What if: $recording</h1>
<p class="model">edge model $model</p>
$remarks
<div class="wide">
<table>
<thead><tr>$headings</tr></thead>
<tbody>
$rows
</tbody>
</table>
</div>
$figures
<h2>How to read it</h2>
<ul>
$legend
</ul>
</body>
</html>
""")


def as_html(report: Report, figures: Sequence[tuple[str, str]]) -> str:
    """The whole page.

    Args:
        report: What to tell.
        figures: A heading and an SVG element each.
    """
    return _PAGE.substitute(
        recording=html.escape(report.recording),
        model=html.escape(report.model),
        remarks="\n".join(f"<p>{html.escape(text)}</p>" for text in _sentences(report)),
        headings="".join(f"<th>{html.escape(name)}</th>" for name in COLUMNS),
        rows="\n".join(_row(result) for result in report.results),
        figures="\n".join(f"<h2>{html.escape(text)}</h2>\n{svg}" for text, svg in figures),
        legend="\n".join(f"<li>{html.escape(text)}</li>" for text in LEGEND),
    )


def _sentences(report: Report) -> list[str]:
    failed = sum(bool(result.error) for result in report.results)
    said = remarks(report)
    return said[: len(said) - failed]  # a failed variant says so in its row


def _row(result: Result) -> str:
    name, *others = (html.escape(cell) for cell in cells(result))
    if result.error:
        said = f"failed: {html.escape(result.error)}"
        return f'<tr class="failed"><td>{name}</td><td colspan="{len(others)}">{said}</td></tr>'
    mark = ' class="front"' if result.pareto else ""
    return f"<tr{mark}><td>{name}</td>" + "".join(f"<td>{cell}</td>" for cell in others) + "</tr>"
