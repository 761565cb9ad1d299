"""The deciding half of lineage: the search, the chain of versions, criteria, differences."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import tiny

from driftwell.messages.errors import SettingsError
from driftwell.messages.head import Manifest
from driftwell.models.bundle import Bundle
from driftwell.tools.lineage.ancestry import Ancestry, ancestry
from driftwell.tools.lineage.bisection import Found, bisect
from driftwell.tools.lineage.comparison import Answers, compare
from driftwell.tools.lineage.criteria import Criterion, Measure, measure_answers, parse_criterion
from driftwell.tools.lineage.movement import movements
from driftwell.tools.lineage.telling import duration, log_row, when
from driftwell.tools.lineage.versions import spans


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny.make_bundle(tmp_path_factory.mktemp("bundle"))


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_the_first_bad_version_is_found_in_few_looks(case: tuple[int, int]) -> None:
    """Of N candidates at most 1 + log2 N are looked at, each once, and the answer is right."""
    count, bad = case
    candidates = list(range(100, 100 + count))
    looked: list[int] = []

    def is_good(candidate: int) -> bool:
        looked.append(candidate)
        return candidate < 100 + bad

    found = bisect(candidates, is_good)

    if bad == count:
        assert (found, looked) == (None, [99 + count])
    else:
        assert found == Found(100 + bad, 99 + bad if bad else None)
    assert len(looked) == len(set(looked)) <= 1 + math.ceil(math.log2(count))


def test_nothing_to_search_is_nothing_found() -> None:
    """Without candidates nothing is looked at."""
    assert bisect([], lambda _: pytest.fail("looked")) is None


def chained(bundle: Bundle, *made: tuple[int, str, int]) -> dict[int, Manifest]:
    """Manifests by number, of (version, method, trained samples)."""
    manifests: dict[int, Manifest] = {}
    for version, method, samples in made:
        manifest = tiny.make_manifest(bundle, version=version)
        before = manifests.get(version - 1)
        provenance = msgspec.structs.replace(
            manifest.provenance, method=method, trained_samples=samples
        )
        manifests[version] = msgspec.structs.replace(
            manifest,
            provenance=provenance,
            parent=before.result if before else manifest.source if version == 1 else "e" * 64,
            result=f"{version:064x}",
        )
    return manifests


def test_the_chain_goes_round_what_was_reverted(bundle: Bundle) -> None:
    """What follows a revert was made from the version gone back to, not from those between."""
    manifests = chained(
        bundle, (1, "cema", 32), (2, "cema", 64), (3, "cema", 96), (4, "revert to 1", 32),
        (5, "cema", 64), (6, "revert to 0", 0), (7, "cema", 32),
    )  # fmt: skip

    assert ancestry(manifests, 3) == Ancestry((1, 2, 3), is_whole=True)
    assert ancestry(manifests, 4) == Ancestry((1,), is_whole=True)
    assert ancestry(manifests, 5) == Ancestry((1, 5), is_whole=True)
    assert ancestry(manifests, 6) == Ancestry((), is_whole=True)
    assert ancestry(manifests, 7) == Ancestry((7,), is_whole=True)


def test_the_chain_begins_after_a_step_that_diverged(bundle: Bundle) -> None:
    """Samples that are counted anew say that the version was made from the source state."""
    manifests = chained(bundle, (1, "cema", 32), (2, "cema", 64), (3, "cema", 32))

    assert ancestry(manifests, 3) == Ancestry((3,), is_whole=True)


def test_the_chain_ends_where_versions_are_not_kept(bundle: Bundle) -> None:
    """It says so, before a gap and before a revert to what is gone."""
    kept = chained(bundle, (8, "cema", 256), (9, "cema", 288), (10, "revert to 2", 64))

    assert ancestry(kept, 9) == Ancestry((8, 9), is_whole=False)
    assert ancestry(kept, 10) == Ancestry((), is_whole=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accuracy>=70", Criterion(Measure.ACCURACY, 70.0)),
        (" accuracy >= 70.5 ", Criterion(Measure.ACCURACY, 70.5)),
        ("drop<=2", Criterion(Measure.DROP, 2.0)),
        ("agreement>=90", Criterion(Measure.AGREEMENT, 90.0)),
        ("command:./try 'a b' c", Criterion(Measure.COMMAND, command=("./try", "a b", "c"))),
    ],
)
def test_the_forms_of_a_test(text: str, expected: Criterion) -> None:
    """Each accepted form is read for what it says."""
    assert parse_criterion(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "accuracy", "accuracy<=70", "drop>=2", "accuracy>=101", "loss<=1", "accuracy>=-1",
     "accuracy>=nan", "command:", "command:'", "accuracy>=70 and drop<=2"],
)  # fmt: skip
def test_a_test_in_no_form_is_answered_with_the_forms(text: str) -> None:
    """An error says what would have been understood."""
    with pytest.raises(SettingsError, match=r"accuracy>=PERCENT|cannot be read"):
        parse_criterion(text)


def answers(*classes: int) -> Answers:
    return Answers(np.array(classes, np.uint16), np.full(len(classes), 0.5, np.float32))


def test_verdicts() -> None:
    """Bounds count as passed; images without a label do not count at all."""
    labels = np.array([0, 1, 2, -1])
    good, worse = answers(0, 1, 2, 0), answers(0, 1, 1, 3)

    def verdict(text: str) -> tuple[bool, str]:
        found = measure_answers(parse_criterion(text), worse, labels, good)
        return found.is_good, found.said

    assert verdict("accuracy>=66.6") == (True, "accuracy 66.7 %")
    assert verdict("accuracy>=67") == (False, "accuracy 66.7 %")
    assert verdict("agreement>=50") == (True, "agreement 50.0 %")
    assert verdict("agreement>=51")[0] is False
    assert verdict("drop<=33") == (False, "accuracy 66.7 %, drop 33.3 points")
    assert verdict("drop<=34")[0] is True


def test_what_changed_between_two_versions() -> None:
    """Changes are counted by pair, most first; accuracy is of what has a label."""
    names = ("a", "b", "c")
    first = Answers(np.array([0, 0, 0, 1], np.uint16), np.array([1, 1, 1, np.nan], np.float32))
    second = answers(0, 2, 2, 0)

    found = compare(first, second, classes=names, labels=np.array([0, 0, 2, -1]), pairs=5)

    assert (found.images, found.changed) == (4, 3)
    assert found.pairs == (("a", "c", 2), ("b", "a", 1))
    assert found.entropy_nats == (1.0, 0.5)
    assert found.accuracy_percent == pytest.approx((200 / 3, 200 / 3))
    blind = compare(first, second, classes=names, labels=np.full(4, -1), pairs=1)
    assert (blind.accuracy_percent, blind.pairs) == (None, (("a", "c", 2),))


def test_which_arrays_moved() -> None:
    """By how much, relative to the source, the most first; what did not move is left out."""
    source = {
        "small": np.array([1, 1], np.float32), "large": np.array([100, 100], np.float32),
        "zero": np.zeros(2, np.float32), "still": np.ones(2, np.float32),
    }  # fmt: skip
    second = {name: array.copy() for name, array in source.items()}
    second["small"] += np.array([3, -4], np.float32)
    second["large"] += np.float32(10)
    second["zero"][1] = 50

    found = movements(source, source, second)

    assert [one.name for one in found] == ["small", "large", "zero"]
    assert found[0].rms == pytest.approx(math.sqrt(12.5))
    assert (found[0].largest, found[1].relative, found[2].relative) == (4.0, 0.1, None)
    assert movements(source, second, second) == []


def test_words(bundle: Bundle) -> None:
    """Times, spans of numbers and the row of a version."""
    manifest = tiny.make_manifest(bundle)
    later = manifest.created_ns + 3 * 3600 * 10**9

    row = log_row(manifest, now_ns=later)

    assert row[:4] == ("cam-1", "1", manifest.result[:12], "source")
    assert row[-2:] == ("3.0 h", "in 21.0 h")
    assert log_row(manifest, now_ns=manifest.expires_ns)[-1] == "expired"
    assert when(0) == "1970-01-01 00:00:00"
    assert when(2**62).startswith("2116")
    assert [duration(s) for s in (-5, 59, 90, 86_400)] == ["0 s", "59 s", "1.5 min", "1.0 d"]
    assert [spans(n) for n in ([], [4], [1, 2, 3], [1, 2, 4, 6, 7])] == [
        "", "4", "1 to 3", "1 to 2, 4, 6 to 7",
    ]  # fmt: skip
