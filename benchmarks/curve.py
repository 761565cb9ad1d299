"""Accuracy over bytes, from the JSON lines of `benchmarks/cifar10c.sh curve`.

python benchmarks/curve.py --plot benchmarks/curve.png results/curve-*.jsonl

A row a share of the images, a column a selector: mean accuracy over the streams, and in brackets
kB a stream in both directions. The line without uploads is the edge's own statistics alone.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any, Final

SHARE: Final = "edge:budget.share="
SELECTOR: Final = "edge:selection.selector="

Row = dict[str, Any]
Cells = dict[tuple[float, str], list[Row]]


def read(files: list[Path]) -> tuple[Cells, list[Row]]:
    """Results by share and selector, and those without uploads."""
    cells: Cells = defaultdict(list)
    alone = []
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            told = dict(one.rsplit("=", 1) for one in row.get("assignments", ()))
            if row["method"] == "own":
                alone.append(row)
            else:
                share = float(told[SHARE.rstrip("=")])
                cells[share, told[SELECTOR.rstrip("=")]].append(row)
    return cells, alone


def accuracy(rows: list[Row]) -> float:
    """Mean over the streams, percent."""
    return fmean(row["accuracy"] for row in rows)


def kilobytes(rows: list[Row]) -> float:
    """Mean over the streams, both directions."""
    return fmean(row["bytes_up"] + row["bytes_down"] for row in rows) / 1e3


def table(cells: Cells, alone: list[Row]) -> str:
    """Markdown."""
    selectors = sorted({selector for _, selector in cells}, key=lambda one: (one != "random", one))
    lines = [f"| share | {' | '.join(selectors)} |", f"| ---: |{' ---: |' * len(selectors)}"]
    for share in sorted({share for share, _ in cells}):
        found = [cells.get((share, selector), []) for selector in selectors]
        said = [f"{accuracy(rows):.2f} ({kilobytes(rows):.0f})" if rows else "" for rows in found]
        lines.append(f"| {100 * share:g} % | {' | '.join(said)} |")
    lines.append(f"\nOwn statistics alone: {accuracy(alone):.2f}")
    return "\n".join(lines)


def plot(cells: Cells, alone: list[Row], out: Path) -> None:
    """A line a selector."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for selector in sorted({selector for _, selector in cells}):
        mine = sorted((key, rows) for key, rows in cells.items() if key[1] == selector)
        points = [(kilobytes(rows), accuracy(rows)) for _, rows in mine]
        axes.plot(*zip(*points, strict=True), marker="o", label=selector)
    axes.axhline(accuracy(alone), color="grey", linestyle="--", label="own statistics alone")
    axes.set(xlabel="kB a stream of 1,000, both directions", ylabel="accuracy, %", xscale="log")
    axes.legend()
    figure.savefig(out, dpi=120)


def main() -> None:
    """Print the table, and plot if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    cells, alone = read(options.files)
    if not cells or not alone:
        raise SystemExit("the results of the curve are not all there: run cifar10c.sh curve again")
    print(table(cells, alone))
    if options.plot:
        plot(cells, alone, options.plot)


if __name__ == "__main__":
    main()
