"""Pure. What became of each variant, as JSON and as the cells of a table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from driftwell.tools.virtual.tally import Made
from driftwell.tools.whatif.curves import Curves
from driftwell.tools.whatif.pareto import Point, pareto_front
from driftwell.tools.whatif.variants import AS_RECORDED

LIVE: Final = "recorded live"
UNKNOWN: Final = "-"
FRONT: Final = "●"


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One variant; what is None is not known, or does not exist in such a run."""

    variant: str
    error: str = ""
    """Why it failed; empty if it did not."""
    n: int = 0
    """Images answered."""
    labelled: int = 0
    """Those whose true class was recorded."""
    accuracy: float | None = None
    """Percent of the labelled ones."""
    pareto: bool = False
    """No other variant is more accurate for the same bytes or as accurate for fewer."""
    uploads: int | None = None
    """Images sent to the cloud."""
    bytes_up: int | None = None
    """Whole PUBLISH packets of sample batches."""
    bytes_down: int | None = None
    """Whole PUBLISH packets of versions, once for each device that gets one."""
    lag_s_p50: float | None = None
    """Recorded seconds from the newest sample of a version to its first answer."""
    versions: int | None = None
    """Made by the cloud."""
    applied: int | None = None
    """Versions taken by devices, each device counted."""
    refused: int | None = None
    """Versions refused by devices."""
    diverged: int | None = None
    """Uploaded images whose learning step was thrown away, because it was not finite."""
    expired: int | None = None
    """Uploaded images that were too few for a last step."""
    rejected: int | None = None
    """Uploaded images the cloud refused."""
    waiting: int | None = None
    """Uploaded images that still wait for a step at the end."""
    training_s: float | None = None
    """Real seconds in learning steps."""
    made: tuple[Made, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """A variant's numbers and curves."""

    result: Result
    curves: Curves


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All variants of one recording."""

    recording: str
    model: str
    """The digest of the edge bundle."""
    reproduced: bool | None
    """Whether the run as recorded made the very versions that were recorded; None: not known."""
    other_foundation: bool = False
    """Another foundation bundle taught than in the recorded run."""
    results: tuple[Result, ...]


def mark_front(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Mark the variants on the front of accuracy over bytes; the live run does not compete."""
    competing = [not o.result.error and o.result.variant != LIVE for o in outcomes]
    points = [
        Point(o.result.accuracy if competes else None, total_bytes(o.result) or 0)
        for o, competes in zip(outcomes, competing, strict=True)
    ]
    return [
        Outcome(msgspec.structs.replace(o.result, pareto=is_on), o.curves)
        for o, is_on in zip(outcomes, pareto_front(points), strict=True)
    ]


def total_bytes(result: Result) -> int | None:
    """Up and down; None where one is not known."""
    if result.bytes_up is None or result.bytes_down is None:
        return None
    return result.bytes_up + result.bytes_down


def is_reproduced(results: Sequence[Result]) -> bool | None:
    """Whether the run as recorded made every version that is in the recording, bit for bit.

    It may make more: a recording made at a device ends before the last version comes.
    """
    named = {result.variant: result for result in results}
    live, again = named.get(LIVE), named.get(AS_RECORDED)
    if live is None or again is None or not live.made or again.error:
        return None
    made = set(again.made)
    return all(version in made for version in live.made)


def as_json(report: Report) -> str:
    """One JSON object, indented."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()


def cells(result: Result) -> list[str]:
    """A row of the table; a failed variant has no numbers."""
    if result.error:
        return [result.variant, "failed", *[""] * (len(COLUMNS) - 2)]
    return [cell(result) for cell in COLUMNS.values()]


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)


def _kilobytes(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value / 1e3:.1f}"


def _number(value: float | None, digits: int) -> str:
    return UNKNOWN if value is None else f"{value:.{digits}f}"


COLUMNS: Final[Mapping[str, Callable[[Result], str]]] = {
    "variant": lambda r: r.variant,
    "n": lambda r: str(r.n) if r.n else UNKNOWN,
    "accuracy %": lambda r: _number(r.accuracy, 2),
    "front": lambda r: FRONT if r.pareto else "",
    "uploads": lambda r: _count(r.uploads),
    "kB up": lambda r: _kilobytes(r.bytes_up),
    "kB down": lambda r: _kilobytes(r.bytes_down),
    "lag s": lambda r: _number(r.lag_s_p50, 2),
    "versions": lambda r: _count(r.versions),
    "applied": lambda r: _count(r.applied),
    "refused": lambda r: _count(r.refused),
    "diverged": lambda r: _count(r.diverged),
    "expired": lambda r: _count(r.expired),
    "rejected": lambda r: _count(r.rejected),
    "waiting": lambda r: _count(r.waiting),
    "training s": lambda r: _number(r.training_s, 1),
}
"""Every column of the table, and its cell."""

COSTS: Final = 8
"""The first so many columns say what a variant brings and costs, the others how that came about."""

LEGEND: Final = (
    f"{FRONT}: on the Pareto front; nobody is better for the same bytes, or as good for less.",
    "kB: whole PUBLISH packets, sample batches up and versions down; no acks, states, telemetry.",
    "lag: recorded seconds from a version's newest sample to its first answer; learning takes 0.",
    "versions: made by the cloud; applied and refused: at the devices, each device counted.",
    "diverged: uploads whose learning step was not finite; no other gate judges versions yet.",
    "expired: uploads too few for a last step; rejected: refused; waiting: not yet learned from.",
)
"""What the columns mean, where their names do not say it."""


def remarks(report: Report) -> list[str]:
    """What a reader must know of these very results, one sentence or two each."""
    said = []
    if report.reproduced is True:
        said.append("The run as recorded made the very versions that were recorded.")
    elif report.reproduced is False:
        said.append(
            "The run as recorded made other versions than were recorded. That is so if the devices "
            "did not run in lockstep, if other processors or threads did the sums, or if this "
            "is not the foundation bundle of the run. Compare variants with the row "
            f"“{AS_RECORDED}”, not with “{LIVE}”."
        )
    if report.other_foundation:
        said.append("Another foundation model taught than in the recorded run.")
    done = [result for result in report.results if not result.error]
    if not any(result.n for result in done):
        said.append(
            "The recording holds no raw streams: nothing was answered, so that accuracy and lag "
            "are not known."
        )
    elif not any(result.labelled for result in done):
        said.append("The recording holds no labels: accuracy is not known.")
    said += [f"{r.variant} failed: {r.error}" for r in report.results if r.error]
    return said
