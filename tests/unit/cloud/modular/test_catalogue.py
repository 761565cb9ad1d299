"""Modules with versions: who is behind catches up, and what is too old is refused."""

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from driftwell.cloud.modular.catalogue import Catalogue, FoldSettings, Update
from driftwell.messages.delta import Delta, apply_delta
from driftwell.messages.errors import ArrayError, DeltaError, RefusalCode

HERE, BYPASS = (0, 3), (0, 15)
VALUES = 4096

Arrays = dict[str, NDArray[np.float32]]


def module(seed: int) -> Arrays:
    generator = np.random.default_rng(seed)
    return {
        "first.weight": generator.normal(size=(64, 60)).astype("f4"),
        "second.weight": generator.normal(size=(256,)).astype("f4"),
    }


def catalogue(**settings: float) -> Catalogue:
    told = msgspec.convert(settings, FoldSettings)
    return Catalogue({HERE: module(0), BYPASS: {}}, told)


def learn(where: Catalogue, base: int, seed: int, importance: float = 0.5) -> Update:
    """A device's update after it began with the newest version."""
    learned = {
        name: array + np.float32(0.01) * module(seed)[name]
        for name, array in where.arrays(HERE).items()
    }
    return where.update(HERE, base, learned, importance)[0]


def advance(where: Catalogue, times: int) -> None:
    for time in range(times):
        update = learn(where, where.version(HERE), 10 + time)
        assert where.fold(HERE, [where.read(HERE, update)])


def test_a_module_moves_towards_what_was_learned() -> None:
    """By the share that its weight allows, in few bits; it has a new version then."""
    where = catalogue(inertia=0.5)
    before = where.arrays(HERE)
    update = learn(where, 0, 1, importance=0.5)
    assert where.fold(HERE, [where.read(HERE, update)])

    moved = where.arrays(HERE)["first.weight"] - before["first.weight"]
    wanted = 0.5 * 0.01 * module(1)["first.weight"]
    assert where.version(HERE) == 1
    assert np.corrcoef(moved.ravel(), wanted.ravel())[0, 1] > 0.95
    assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(wanted), rel=0.1)


def test_who_is_behind_fetches_the_differences() -> None:
    """A few bits a value and version; never more than the whole module."""
    where = catalogue(keep=16)
    whole = 4 * VALUES
    assert where.fetch_bytes(HERE, None) == whole
    assert where.fetch_bytes(HERE, 0) == 0
    advance(where, 3)

    one, three = where.fetch_bytes(HERE, 2), where.fetch_bytes(HERE, 0)
    assert 0 < one <= VALUES // 2
    assert one < three <= 3 * VALUES // 2
    advance(where, 12)
    assert where.fetch_bytes(HERE, 0) == whole


def test_what_was_forgotten_is_fetched_whole_and_refused_as_a_base() -> None:
    """Only so many versions are kept."""
    where = catalogue(keep=3)
    late = learn(where, 0, 5)
    advance(where, 2)
    assert where.read(HERE, late).age == 2
    advance(where, 1)

    assert where.fetch_bytes(HERE, 0) == 4 * VALUES
    with pytest.raises(DeltaError, match="no longer kept") as refused:
        where.read(HERE, late)
    assert refused.value.code is RefusalCode.OLDER_VERSION


def test_a_late_update_counts_less() -> None:
    """Against the same update in time, both beside one that is up to date."""
    shares = []
    for late in (0, 2):
        where = catalogue(inertia=1.0)
        update = learn(where, 0, 5)
        advance(where, late)
        before = where.arrays(HERE)["first.weight"]
        where.fold(HERE, [where.read(HERE, Update(update.base, update.delta, 1.0))])
        target = apply_delta(module(0), update.delta)["first.weight"]
        apart = np.linalg.norm(where.arrays(HERE)["first.weight"] - before)
        shares.append(float(apart / np.linalg.norm(target - before)))

    assert shares == pytest.approx([0.5, 0.2], rel=0.15)


def test_wrong_updates_change_nothing() -> None:
    """Unknown modules, versions to come, other shapes, poison, importance out of range."""
    where = catalogue()
    good = learn(where, 0, 1)
    infinite = Delta(encoding="float32", entries=(0,), values=np.full(3840, np.inf, "f4").tobytes())
    short = Delta(encoding="float32", entries=(0,), values=b"1234")
    wrong = [
        ((7, 7), good, RefusalCode.WRONG_SOURCE),
        (HERE, Update(1, good.delta, 0.5), RefusalCode.WRONG_SOURCE),
        (HERE, Update(0, infinite, 0.5), RefusalCode.NOT_FINITE),
        (HERE, Update(0, short, 0.5), RefusalCode.BAD_ARRAY),
        (HERE, Update(0, good.delta, 1.5), RefusalCode.MALFORMED),
        (HERE, Update(0, good.delta, float("nan")), RefusalCode.MALFORMED),
    ]
    for address, update, code in wrong:
        with pytest.raises((DeltaError, ArrayError)) as refused:
            where.read(address, update)
        assert refused.value.code is code

    assert where.version(HERE) == 0


def test_a_bypass_never_changes() -> None:
    """It has nothing that could."""
    where = catalogue()

    assert where.fetch_bytes(BYPASS, None) == 0
    assert not where.fold(BYPASS, [])
    assert not where.fold(HERE, [])
