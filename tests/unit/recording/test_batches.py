"""Recorded batches cut anew: every image once, in order, in batches of one size."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests import tiny

from driftwell.recording.batches import Batch, Cutter


def batches(sizes: list[int]) -> list[Batch]:
    """Consecutive images in batches of these sizes; image, index and label belong together."""
    total = sum(sizes)
    index = np.arange(total, dtype=np.uint64)
    whole = Batch(tiny.make_images(total), index, index.astype(np.int64) % 4)
    ends = np.cumsum(sizes)
    return [whole.part(int(end) - size, int(end)) for size, end in zip(sizes, ends, strict=True)]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 12))
def test_every_image_comes_once_and_in_order(sizes: list[int], size: int) -> None:
    """All batches but the last have the size that was asked for."""
    given_batches = batches(sizes)
    cutter = Cutter(size)

    cut = [part for batch in given_batches for part in cutter.add(batch)] + list(cutter.rest())

    assert {len(part) for part in cut[:-1]} <= {size}
    assert 0 < len(cut[-1]) <= size
    for field in ("images", "index", "labels"):
        wanted = np.concatenate([getattr(batch, field) for batch in given_batches])
        assert np.array_equal(wanted, np.concatenate([getattr(part, field) for part in cut]))


def test_a_batch_comes_as_soon_as_it_is_complete() -> None:
    """Not one recorded batch later."""
    cutter = Cutter(4)
    first, second = batches([3, 6])

    assert [len(part) for part in cutter.add(first)] == []
    assert [len(part) for part in cutter.add(second)] == [4, 4]
    assert [len(part) for part in cutter.rest()] == [1]
    assert list(cutter.rest()) == []


@pytest.mark.parametrize(("given_size", "size"), [(1, 400), (7, 400), (400, 7)])
def test_an_image_is_copied_once(
    given_size: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small the recorded batches are beside those asked for, or large."""
    copied = 0

    def count(arrays: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
        nonlocal copied
        copied += sum(len(array) for array in arrays)
        return concatenate(arrays)

    given_batches = batches([given_size] * (2800 // given_size))
    cutter, concatenate = Cutter(size), np.concatenate
    monkeypatch.setattr(np, "concatenate", count)
    cut = [part for batch in given_batches for part in cutter.add(batch)] + list(cutter.rest())

    assert sum(map(len, cut)) == 2800
    assert copied <= 2800 * 3  # images, index and labels


@pytest.mark.parametrize("sizes", [[3, 6, 1]])
def test_without_a_size_batches_stay_as_they_are(sizes: list[int]) -> None:
    """A camera's batches are as large as they came."""
    cutter = Cutter(None)

    assert [len(part) for b in batches(sizes) for part in cutter.add(b)] == sizes
    assert list(cutter.rest()) == []
