"""What became of the variants, as people and programs read it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from driftwell.messages.errors import SettingsError
from driftwell.tools.cli import whatif
from driftwell.tools.virtual.tally import Made, Tally
from driftwell.tools.whatif.curves import MAX_POINTS, Curves, draw_curves, moving_mean
from driftwell.tools.whatif.figures import draw_figures
from driftwell.tools.whatif.measuring import measure
from driftwell.tools.whatif.page import as_html
from driftwell.tools.whatif.results import (
    COLUMNS,
    LIVE,
    Outcome,
    Report,
    Result,
    as_json,
    cells,
    is_reproduced,
    mark_front,
    remarks,
)
from driftwell.tools.whatif.variants import AS_RECORDED

CURVES = Curves(
    accuracy=((20, 50.0), (21, 55.0), (22, 60.0)), window=20, uploads=((0.0, 3), (1.5, 7))
)


def outcome(variant: str, accuracy: float | None = 70.0, size: int = 1000) -> Outcome:
    result = Result(
        variant=variant, n=100, labelled=100, accuracy=accuracy, uploads=40, bytes_up=size,
        bytes_down=0, versions=3, applied=3, refused=0,
    )  # fmt: skip
    return Outcome(result, CURVES)


FAILED = Outcome(Result(variant="seed=<9>", error="out of <memory> & luck"), Curves())


def report(*outcomes: Outcome, recording: str = "run.mcap") -> Report:
    results = tuple(one.result for one in outcomes)
    return Report(recording=recording, model="a" * 64, reproduced=None, results=results)


def made(*digests: str) -> tuple[Made, ...]:
    return tuple(
        Made(cohort="cam-1", version=n, digest=digest) for n, digest in enumerate(digests, 1)
    )


def test_json_has_the_promised_fields() -> None:
    """Every field other programs were promised is there, under its name."""
    [row] = json.loads(as_json(report(outcome("seed=1"))))["results"]

    promised = {
        "variant", "error", "n", "labelled", "accuracy", "pareto", "uploads", "bytes_up",
        "bytes_down", "lag_s_p50", "versions", "applied", "refused", "diverged", "expired",
        "rejected", "waiting", "training_s", "made",
    }  # fmt: skip
    assert row.keys() == promised
    assert row["accuracy"] == 70.0


def test_every_row_has_every_column() -> None:
    """A failed variant too, which has no numbers."""
    rows = [cells(one.result) for one in (outcome("a"), FAILED)]

    assert [len(row) for row in rows] == [len(COLUMNS), len(COLUMNS)]
    assert rows[0][:3] == ["a", "100", "70.00"]
    assert set(rows[1]) == {"seed=<9>", "failed", ""}


def test_what_is_not_known_is_not_a_number() -> None:
    """Zero and unknown are told apart."""
    row = dict(zip(COLUMNS, cells(Result(variant="x", uploads=0)), strict=True))

    assert (row["uploads"], row["kB up"], row["accuracy %"], row["n"]) == ("0", "-", "-", "-")


def test_the_live_run_and_failed_ones_do_not_compete() -> None:
    """The front is of variants."""
    marked = mark_front([outcome(LIVE, 99.0, 1), FAILED, outcome("a", 70.0), outcome("b", 60.0)])

    assert [one.result.pareto for one in marked] == [False, False, True, False]


def test_a_repeated_run_may_make_more_versions_than_were_recorded_but_no_others() -> None:
    """A recording made at a device ends before the last version comes."""

    def verdict(live: tuple[Made, ...], again: tuple[Made, ...], error: str = "") -> bool | None:
        return is_reproduced(
            [Result(variant=LIVE, made=live), Result(variant=AS_RECORDED, made=again, error=error)]
        )

    assert verdict(made("a", "b"), made("a", "b", "c")) is True
    assert verdict(made("a", "b"), made("a", "x", "b")) is False
    assert verdict(made("a", "b"), made("a")) is False
    assert verdict((), made("a")) is None
    assert verdict(made("a"), (), "failed") is None


def test_remarks_say_what_the_numbers_do_not() -> None:
    """Whether the run was repeated, whether accuracy can be known, what failed."""
    unlabelled = Outcome(Result(variant="a", n=100), Curves())
    unanswered = Outcome(Result(variant="a"), Curves())

    assert "no labels" in remarks(report(unlabelled))[0]
    assert "no raw streams" in remarks(report(unanswered))[0]
    assert remarks(report(outcome("a"), FAILED)) == ["seed=<9> failed: out of <memory> & luck"]


def test_the_mean_is_of_the_images_before() -> None:
    """Fewer of them at the beginning, and never one to come."""
    curve = moving_mean(np.array([True, False, False, True]), 2)

    assert curve.tolist() == [1.0, 0.5, 0.0, 0.5]


@pytest.mark.parametrize("count", [0, 1, 5, 299, 10_000])
def test_curves_are_thin_and_end_at_the_end(count: int) -> None:
    """However long the stream, and however short."""
    uploads = [(10**9 + n * 10**6, n) for n in range(count)]

    curves = draw_curves(np.ones(count, np.bool_), uploads, began_ns=10**9)

    assert len(curves.accuracy) <= MAX_POINTS
    assert len(curves.uploads) <= MAX_POINTS
    assert [x for x, _ in curves.accuracy][-1:] == [count][: min(1, count)]
    assert {y for _, y in curves.accuracy} <= {100.0}
    assert curves.uploads[-1:] == (((count - 1) / 1000, count - 1),)[: min(1, count)]


def test_images_without_a_label_are_answered_but_not_measured() -> None:
    """Two of four are labelled, and one of these is right."""
    tally = Tally()
    tally.begin(5)
    tally.answer(np.array([1, 2, 3, 0]), np.array([1, -1, -1, 1]))

    result = measure(tally, "x").result

    assert (result.n, result.labelled, result.accuracy) == (4, 2, 50.0)


def page(*outcomes: Outcome, recording: str = "run.mcap") -> str:
    return as_html(report(*outcomes, recording=recording), draw_figures(outcomes))


def test_without_matplotlib_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of them: install it, or leave the report out; before anything runs."""
    monkeypatch.setattr(whatif, "DRAWS", "no_such_module")

    with pytest.raises(SettingsError, match=r"driftwell\[demo\].*--no-html"):
        whatif.run_whatif(recording=Path("x"), edge=Path("x"), foundation=Path("x"))


def test_the_page_loads_nothing() -> None:
    """No address, no script, no style sheet or picture from anywhere."""
    text = page(*mark_front([outcome(LIVE), outcome(AS_RECORDED), outcome("seed=1")]))

    assert re.search(r"https?:|//|<script|<link|<img|@import|<iframe", text) is None
    assert set(re.findall(r"(?:href|src|url\()=?\"?(.)", text)) <= {"#"}


def test_the_page_has_table_and_plots() -> None:
    """Three plots, each with a name for those who cannot see it, and a line for each variant."""
    text = page(*mark_front([outcome(LIVE), outcome(AS_RECORDED), outcome("seed=1", 60.0, 10)]))

    assert text.count("<svg") == text.count('<svg role="img" aria-label="') == 3
    assert text.count(">seed=1</text>") == 3
    assert "<td>70.00</td>" in text
    assert text.count('<tr class="front">') == 2


def test_plots_take_the_colour_of_the_page() -> None:
    """So that they can be read on a dark page as well as on a light one."""
    text = page(outcome(LIVE), outcome(AS_RECORDED))

    assert "currentColor" in text
    assert "#010203" not in text
    assert "#000000" not in text
    assert "prefers-color-scheme: dark" in text


def test_what_is_no_markup_stays_text() -> None:
    """File names and errors are the user's."""
    text = page(outcome("a"), FAILED, recording="<b>&.mcap")

    assert "<b>&" not in text
    assert "&lt;b&gt;&amp;.mcap" in text
    assert "out of &lt;memory&gt; &amp; luck" in text
    assert "seed=&lt;9&gt;" in text


def test_without_accuracy_there_is_no_accuracy_plot() -> None:
    """Uploads are drawn all the same."""
    bare = Outcome(Result(variant="a", uploads=7), Curves(uploads=CURVES.uploads))

    assert [heading for heading, _ in draw_figures([bare])] == [
        "Images uploaded over the recorded time"
    ]
    assert draw_figures([FAILED]) == []


def test_the_same_results_give_the_same_page() -> None:
    """Byte for byte, so that two reports can be compared."""
    assert page(outcome("a"), outcome("b")) == page(outcome("a"), outcome("b"))


def test_a_large_sweep_is_drawn_too() -> None:
    """More variants than colours and line styles."""
    sweep = [outcome(f"seed={n}", 50.0 + n, n) for n in range(40)]

    assert page(*sweep).count(">seed=39</text>") == 3
