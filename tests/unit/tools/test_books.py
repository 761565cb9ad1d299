"""Whether the books balance, put together from both sides."""

import pytest

from driftwell.tools.books import balance

EDGE = {"selected": 100, "acknowledged": 70, "rejected:bad-array": 5, "dropped:spool-full": 10,
        "spooled": 15, "seen": 400}  # fmt: skip


def test_everything_has_one_fate() -> None:
    """What is stored but not yet known to the edge is under way once, not twice."""
    cloud = {"stored": 78, "trained": 64, "expired": 2, "rejected:diverged": 4, "pending": 8}

    entry = balance("cam-1", EDGE, cloud)

    assert entry.difference == 0
    assert entry.rejected == {"bad-array": 5, "diverged": 4}
    assert entry.dropped == {"spool-full": 10}
    assert entry.under_way == 8 + (15 - 8)


def test_a_device_the_cloud_never_heard_of() -> None:
    """All that was selected is in the spool or was dropped."""
    entry = balance("cam-1", {"selected": 5, "spooled": 3, "dropped:disk-full": 2}, {})

    assert (entry.difference, entry.under_way, entry.trained) == (0, 3, 0)


@pytest.mark.parametrize("missing", ["trained", "expired"])
def test_a_lost_sample_shows(missing: str) -> None:
    """One sample less in a fate is a difference of one."""
    cloud = {"stored": 70, "trained": 60, "expired": 10, "pending": 0}
    assert balance("cam-1", EDGE, cloud).difference == 0
    cloud[missing] -= 1

    assert balance("cam-1", EDGE, cloud).difference == 1


def test_the_edges_word_counts_for_refusals() -> None:
    """What both sides count as refused is counted once."""
    cloud = {"stored": 70, "trained": 70, "pending": 0, "rejected:bad-array": 5}

    assert balance("cam-1", EDGE, cloud).rejected == {"bad-array": 5}


@pytest.mark.parametrize(
    ("stored", "trained"),
    [(69, 69), (86, 86), (75, 70)],
    ids=["known-as-stored-and-lost", "more-than-was-sent", "stored-without-trace"],
)
def test_sides_that_contradict_each_other_do_not_balance(stored: int, trained: int) -> None:
    """The device's `acknowledged` is in the cloud's `stored`, which it can account for."""
    good = balance("cam-1", EDGE, {"stored": 75, "trained": 75, "pending": 0})
    bad = balance("cam-1", EDGE, {"stored": stored, "trained": trained, "pending": 0})

    assert good.is_balanced
    assert not bad.is_balanced
