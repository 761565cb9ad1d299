"""The demo from beginning to end: networks, streams, fleet, report, verdict."""

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from driftwell.messages.errors import SettingsError
from driftwell.tools.demo.digits import Samples, split_digits
from driftwell.tools.demo.figure import draw_accuracy
from driftwell.tools.demo.fleet import CLOUD_SETTINGS, EDGE_SETTINGS, Places
from driftwell.tools.demo.performance import perform
from driftwell.tools.demo.record import Record
from driftwell.tools.demo.report import Report
from driftwell.tools.demo.scene import set_scene
from driftwell.tools.demo.training import TRAINING_STEPS, Bundles, kept_bundles, train_bundles
from driftwell.tools.demo.verdict import Outcome, judge, verdict_line
from driftwell.tools.demo.view import fleet_view, training_progress

RECOVERED: Final = 0
NOT_RECOVERED: Final = 1
INTERRUPTED: Final = 130
MARK: Final = ".driftwell-demo"
"""A folder with this file in it is a demo's, and may be written over by the next."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user chose."""

    seed: int
    out: Path
    cache: Path
    samples: int
    rate: float
    keep: bool
    lockstep: bool = False
    record: Path | None = None

    @property
    def pace(self) -> str:
        """How fast the cameras answer, as a device is told."""
        return "lockstep" if self.lockstep else f"rate:{self.rate:g}"

    @property
    def speed(self) -> str:
        """The same, for people."""
        return "in step with the cloud" if self.lockstep else f"{self.rate:g} a second"


def run(options: Options, console: Console) -> int:
    """Run the demo; print the verdict on standard output and return the exit code.

    Raises:
        DriftwellError: what is missing, in the way, or which program failed.
    """
    if options.record is not None and options.record.exists():
        raise SettingsError(f"{options.record} is there already; choose another --record")
    places = prepare_folder(options.out)
    try:
        split = split_digits(options.seed)
        bundles = _bundles(options, split.training, console)
        cameras = set_scene(
            places.streams, split.held_out, bundles.edge, samples=options.samples, seed=options.seed
        )
        console.print("starting one cloud and three cameras; Ctrl-C ends all of them")
        with fleet_view(console) as show:
            performing = perform(
                cameras,
                bundles,
                places,
                pace=options.pace,
                seed=options.seed,
                record=options.record,
                show=show,
            )
            records = asyncio.run(performing)
    except KeyboardInterrupt:
        records = None
    if records is None:
        console.print(
            f"stopped; what there is so far (logs, answers, state): {places.out}", soft_wrap=True
        )
        return INTERRUPTED
    outcomes = _outcomes(records)
    write_results(options, records, outcomes)
    if not options.keep:
        for folder in places.passing:
            shutil.rmtree(folder, ignore_errors=True)
    console.print(f"report: {options.out / 'report.html'}", soft_wrap=True)
    print(verdict_line(outcomes))  # noqa: T201  # the result of the command
    return RECOVERED if all(outcome.has_recovered for outcome in outcomes) else NOT_RECOVERED


def prepare_folder(out: Path) -> Places:
    """Make the folder, without what an earlier demo left in it.

    Raises:
        SettingsError: if it holds something that is not a demo's.
    """
    places = Places(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and not (out / MARK).is_file():
            raise SettingsError(f"{out} holds something else than a demo; choose another --out")
        (out / MARK).touch()
        for folder in (*places.passing, places.logs):
            if folder.exists():
                shutil.rmtree(folder)
        for name in ("report.html", "accuracy.png"):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(f"{out} cannot be written: {error}") from error
    return places


def write_results(options: Options, records: Sequence[Record], outcomes: Sequence[Outcome]) -> None:
    """Write `accuracy.png` and `report.html`."""
    image = options.out / "accuracy.png"
    draw_accuracy(records, image)
    settings = {
        "seed": str(options.seed),
        "images a camera": f"{options.samples}, {options.speed}",
        "method": "cema",
        "cloud, beyond the defaults": ", ".join(CLOUD_SETTINGS),
        "cameras, beyond the defaults": ", ".join(EDGE_SETTINGS),
    }
    page = Report(records, outcomes, settings, image.read_bytes()).as_html()
    (options.out / "report.html").write_text(page, encoding="utf-8")


def _bundles(options: Options, training: Samples, console: Console) -> Bundles:
    kept = kept_bundles(options.cache, options.seed)
    if kept is not None:
        return kept
    try:
        with training_progress(console, TRAINING_STEPS) as advance:
            return train_bundles(options.cache, training, seed=options.seed, advance=advance)
    except OSError as error:
        raise SettingsError(f"{options.cache} cannot be written: {error}; see --cache") from error


def _outcomes(records: Sequence[Record]) -> list[Outcome]:
    return [
        judge(
            record.camera.name,
            record.camera.weather.name,
            adapted=record.correct,
            unaided=record.camera.unaided,
            shift_at=record.camera.shift_at,
        )
        for record in records
    ]
