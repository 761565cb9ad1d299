"""The plots of the report, as SVG that takes its text colour from the page around it."""

import re
from collections.abc import Sequence
from io import StringIO
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from driftwell.tools.whatif.results import LIVE, Outcome, total_bytes

INK: Final = "#010203"
"""Stands for the page's text colour until the SVG is written; nothing else has this colour."""
COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
"""Okabe and Ito's, told apart by the colour-blind; without the two that vanish on a page."""
STYLES: Final = ("-", "--", "-.", ":")
"""The next one when the colours are used up, so that 24 lines can be told apart."""
STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
}
WIDTH: Final = 8.6  # inches at 72 points, as all figures here
LEGEND_ROW: Final = 0.22
LEGEND_COLUMNS: Final = 2

Look = tuple[str, str]
"""Colour and line style."""


def draw_figures(outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    """Draw what there is to draw; a heading and an SVG element each.

    Args:
        outcomes: All rows of the table in their order; failed ones are left out.
    """
    shown = [(o, _look(place, o)) for place, o in enumerate(outcomes) if not o.result.error]
    figures = []
    if any(o.curves.accuracy for o, _ in shown):
        window = max(o.curves.window for o, _ in shown)
        heading = f"Accuracy over the stream, mean of the last {window} images"
        figures.append((heading, _accuracy_over_stream(shown, heading)))
    if sum(o.result.accuracy is not None and total_bytes(o.result) is not None for o, _ in shown):
        heading = "Accuracy over bytes, Pareto front ringed"
        figures.append((heading, _accuracy_over_bytes(shown, heading)))
    if any(o.curves.uploads for o, _ in shown):
        heading = "Images uploaded over the recorded time"
        figures.append((heading, _uploads_over_time(shown, heading)))
    return figures


def _look(place: int, outcome: Outcome) -> Look:
    if outcome.result.variant == LIVE:
        return INK, ":"
    number = place - 1
    return COLOURS[number % len(COLOURS)], STYLES[number // len(COLOURS) % len(STYLES)]


def _above(colour: str) -> float:
    """The live run's dots lie over the line that repeats it, so that both are seen."""
    return 3 if colour == INK else 2


def _accuracy_over_stream(shown: Sequence[tuple[Outcome, Look]], heading: str) -> str:
    with mpl.rc_context(STYLE):
        figure, axis = _axes(3.4, [o.result.variant for o, _ in shown if o.curves.accuracy])
        for outcome, (colour, style) in shown:
            if outcome.curves.accuracy:
                x, y = zip(*outcome.curves.accuracy, strict=True)
                axis.plot(
                    x, y, color=colour, linestyle=style, label=outcome.result.variant,
                    zorder=_above(colour),
                )  # fmt: skip
        axis.set_xlabel("images answered")
        axis.set_ylabel("accuracy, %")
        return _finish(figure, heading)


def _uploads_over_time(shown: Sequence[tuple[Outcome, Look]], heading: str) -> str:
    with mpl.rc_context(STYLE):
        figure, axis = _axes(3.0, [o.result.variant for o, _ in shown if o.curves.uploads])
        for outcome, (colour, style) in shown:
            if outcome.curves.uploads:
                x, y = zip(*outcome.curves.uploads, strict=True)
                axis.plot(
                    x, y, color=colour, linestyle=style, label=outcome.result.variant,
                    drawstyle="steps-post", zorder=_above(colour),
                )  # fmt: skip
        axis.set_xlabel("recorded seconds")
        axis.set_ylabel("images uploaded")
        return _finish(figure, heading)


def _accuracy_over_bytes(shown: Sequence[tuple[Outcome, Look]], heading: str) -> str:
    points = [(total_bytes(o.result), o.result, look) for o, look in shown]
    known = [
        (size / 1e3, result.accuracy, result, look)
        for size, result, look in points
        if size is not None and result.accuracy is not None
    ]
    with mpl.rc_context(STYLE):
        figure, axis = _axes(3.2, [result.variant for _, _, result, _ in known])
        front = sorted((x, y) for x, y, result, _ in known if result.pareto)
        if front:
            axis.plot(*zip(*front, strict=True), color=INK, alpha=0.35, linewidth=1, zorder=1)
        for x, y, result, (colour, style) in known:
            marker = "x" if result.variant == LIVE else "os^D"[STYLES.index(style)]
            axis.plot(
                [x], [y], marker, color=colour, label=result.variant, zorder=1 + _above(colour)
            )
            if result.pareto:
                axis.plot(
                    [x], [y], "o", markersize=13, markerfacecolor="none",
                    markeredgecolor=INK, zorder=2,
                )  # fmt: skip
        axis.margins(0.08)
        axis.set_xlabel("kB up and down")
        axis.set_ylabel("accuracy, %")
        return _finish(figure, heading)


def _axes(height: float, names: Sequence[str]) -> tuple[Figure, Axes]:
    rows = -(-len(names) // LEGEND_COLUMNS)
    figure = Figure(figsize=(WIDTH, height + LEGEND_ROW * rows), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.subplots()


def _finish(figure: Figure, heading: str) -> str:
    figure.legend(loc="outside upper left", ncols=LEGEND_COLUMNS)
    text = StringIO()
    # Without the salt the names inside are drawn anew each time, and the page never the same.
    with mpl.rc_context({"svg.hashsalt": heading}):
        figure.savefig(
            text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    label = heading.replace('"', "")
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).replace(
        INK, "currentColor"
    )
