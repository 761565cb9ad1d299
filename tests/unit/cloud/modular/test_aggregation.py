"""What devices learned comes together, module by module."""

import numpy as np
import pytest
from numpy.typing import NDArray

from driftwell.cloud.modular.aggregation import Contribution, fold_in

Arrays = dict[str, NDArray[np.float32]]


def module(value: float) -> Arrays:
    return {
        "first.weight": np.full((2, 3), value, np.float32),
        "norm.bias": np.full(2, -value, np.float32),
    }


def test_the_mean_by_importance() -> None:
    """The formula of the paper, where the cloud's copy counts nothing."""
    folded = fold_in(module(9), [Contribution(module(1), 0.6), Contribution(module(4), 0.2)])

    np.testing.assert_allclose(folded["first.weight"], (0.6 * 1 + 0.2 * 4) / 0.8)
    np.testing.assert_allclose(folded["norm.bias"], -(0.6 * 1 + 0.2 * 4) / 0.8)
    assert all(array.dtype == np.float32 for array in folded.values())


def test_the_plain_mean() -> None:
    """For comparison: everybody counts as one."""
    given = [Contribution(module(1), 0.6), Contribution(module(4), 0.2)]

    np.testing.assert_allclose(fold_in(module(9), given, by_importance=False)["norm.bias"], -2.5)


def test_nobody_changes_nothing() -> None:
    """No contributions, or only such that do not use it: the same bits, and copies."""
    kept = module(3)
    for given in ([], [Contribution(module(1), 0.0)]):
        folded = fold_in(kept, given)
        assert all(np.array_equal(folded[name], kept[name]) for name in kept)
        folded["norm.bias"][0] = 7
        assert kept["norm.bias"][0] == -3


def test_old_copies_count_less() -> None:
    """By a power of the versions they are behind."""
    given = [Contribution(module(0), 1.0), Contribution(module(3), 1.0, age=1)]
    folded = fold_in(module(9), given, discount=0.5)

    np.testing.assert_allclose(folded["first.weight"], 1.0)


def test_few_do_not_replace_what_many_made() -> None:
    """With inertia the module goes a part of the way, further the more stands behind it."""
    one = fold_in(module(0), [Contribution(module(1), 0.5)], inertia=1.5)
    many = fold_in(module(0), [Contribution(module(1), 0.5)] * 9, inertia=1.5)

    np.testing.assert_allclose(one["first.weight"], 0.25, rtol=1e-6)
    np.testing.assert_allclose(many["first.weight"], 0.75, rtol=1e-6)


def test_who_comes_first_does_not_matter() -> None:
    """But for rounding."""
    generator = np.random.default_rng(0)
    given = [Contribution(module(generator.normal()), generator.random()) for _ in range(6)]
    ahead, backwards = (fold_in(module(0), order) for order in (given, given[::-1]))

    for name in ahead:
        np.testing.assert_allclose(ahead[name], backwards[name], rtol=1e-6)


def test_what_is_not_the_module_is_refused() -> None:
    """Other names, other shapes, no numbers."""
    wrong: list[Arrays] = [
        {},
        module(1) | {"more": np.zeros(1, np.float32)},
        module(1) | {"norm.bias": np.zeros(3, np.float32)},
        module(1) | {"norm.bias": np.array([1, np.inf], np.float32)},
    ]
    for arrays in wrong:
        with pytest.raises(ValueError, match="array"):
            fold_in(module(0), [Contribution(module(1), 1.0), Contribution(arrays, 1.0)])
