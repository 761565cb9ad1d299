"""Reads `messages/README.md`, so that tests can hold the code against it."""

from pathlib import Path
from typing import Final

README: Final = Path(__file__).resolve().parents[3] / "messages" / "README.md"


def section(heading: str) -> list[str]:
    """The lines below a heading, up to the next heading of any level."""
    lines = README.read_text(encoding="utf-8").splitlines()
    start = lines.index(heading) + 1
    ends = (number for number in range(start, len(lines)) if lines[number].startswith("#"))
    return lines[start : next(ends, len(lines))]


def table(heading: str) -> list[dict[str, str]]:
    """The rows of the first table below a heading, by column, without backticks."""
    rows: list[list[str]] = []
    for line in section(heading):
        if line.startswith("|"):
            rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
        elif rows:
            break
    header, _, *body = rows
    return [dict(zip(header, row, strict=True)) for row in body]
