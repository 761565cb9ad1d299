"""Turns the JSON of `driftwell bench stream` into the Markdown table of a result page.

python benchmarks/table.py RESULTS.json
"""

import json
import sys
from pathlib import Path


def main(file: Path) -> None:
    """Print a row a method: accuracy by stream, the mean, and what it cost."""
    rows = json.loads(file.read_text())["results"]
    streams = list(dict.fromkeys(row["stream"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    print(f"| stream | {' | '.join(methods)} |")
    print(f"| --- |{' ---: |' * len(methods)}")
    value = {(row["stream"], row["method"]): row for row in rows}
    for stream in streams:
        cells = [f"{value[stream, method]['accuracy']:.2f}" for method in methods]
        print(f"| {stream} | {' | '.join(cells)} |")
    means = [_mean(rows, method, "accuracy") for method in methods]
    print(f"| **mean** | {' | '.join(f'**{mean:.2f}**' for mean in means)} |")
    print()
    print("| method, mean a stream | uploaded | kB up | kB down | versions applied | lag p50 s |"
          " forward ms | other ms |")  # fmt: skip
    print("| --- |" + " ---: |" * 7)
    for method in methods:
        lag = _mean(rows, method, "lag_s_p50")
        print(
            f"| {method} | {_mean(rows, method, 'uploaded'):.0f} "
            f"| {_mean(rows, method, 'bytes_up') / 1e3:.0f} "
            f"| {_mean(rows, method, 'bytes_down') / 1e3:.0f} "
            f"| {_mean(rows, method, 'versions_applied'):.0f} | {lag:.2f} "
            f"| {_mean(rows, method, 'edge_forward_ms'):.1f} "
            f"| {_mean(rows, method, 'edge_other_ms'):.1f} |"
        )


def _mean(rows: list[dict[str, float]], method: str, field: str) -> float:
    values = [row[field] or 0.0 for row in rows if row["method"] == method]
    return sum(values) / len(values)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
