"""Which modules answer which sub-task: the best assignment, within its limits."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftwell.cloud.modular.ability import assign_modules, gate_labels, tasks_per_module

EXAMPLE = np.array(
    [
        [0.11, 0.06, 0.36, 0.44, 0.03],
        [0.46, 0.03, 0.30, 0.05, 0.16],
        [0.07, 0.44, 0.02, 0.13, 0.34],
    ]
)
"""The paper's, with two modules for each of three sub-tasks."""


def test_the_worked_example_of_the_paper() -> None:
    """Nebula, ICPP 2024, figure 5: (.45 .55), (.61 .39), (.57 .43; exactly .564 .436)."""
    assigned = assign_modules(EXAMPLE, modules_per_task=2, limit=3)
    labels = gate_labels(EXAMPLE, assigned)

    expected = [[0, 0, 0.45, 0.55, 0], [0.605, 0, 0.395, 0, 0], [0, 0.564, 0, 0, 0.436]]
    np.testing.assert_allclose(labels, expected, atol=0.002)


def test_a_module_is_not_given_to_everyone() -> None:
    """All prefer the first; only so many get it, those that lose most without it."""
    load = np.array([[0.9, 0.1, 0.0], [0.8, 0.1, 0.1], [0.6, 0.4, 0.0]])
    assigned = assign_modules(load, modules_per_task=1, limit=2)

    assert assigned.sum(axis=1).tolist() == [1, 1, 1]
    assert assigned[:, 0].tolist() == [True, True, False]


@given(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(0, 999)
)
def test_no_assignment_is_better(
    tasks: int, modules: int, each: int, limit: int, seed: int
) -> None:
    """Against trying all of them."""
    load = np.random.default_rng(seed).random((tasks, modules))
    if each > modules or tasks * each > modules * limit:
        with pytest.raises(ValueError, match="do not fit"):
            assign_modules(load, modules_per_task=each, limit=limit)
        return
    best = max(
        sum(load[task, list(chosen)].sum() for task, chosen in enumerate(choice))
        for choice in product(combinations(range(modules), each), repeat=tasks)
        if np.bincount(np.concatenate(choice)).max() <= limit
    )
    assigned = assign_modules(load, modules_per_task=each, limit=limit)

    assert load[assigned].sum() == pytest.approx(best)
    assert (assigned.sum(axis=1) == each).all()
    assert (assigned.sum(axis=0) <= limit).all()


def test_what_is_no_load() -> None:
    """Negative or not finite: nothing to assign by."""
    for wrong in (-1.0, np.nan):
        with pytest.raises(ValueError, match="finite and at least 0"):
            assign_modules(np.array([[wrong, 1.0]]), modules_per_task=1, limit=1)


def test_modules_nobody_used_share_evenly() -> None:
    """A sub-task without any load on its modules still has labels that sum to 1."""
    labels = gate_labels(np.zeros((1, 4)), np.array([[True, False, True, False]]))

    assert labels.tolist() == [[0.5, 0, 0.5, 0]]


def test_the_limit_always_leaves_room() -> None:
    """An even share and a quarter: there is an assignment for any numbers."""
    for tasks, modules, each in product(range(1, 12), range(1, 12), range(1, 12)):
        if each <= modules:
            assert tasks * each <= modules * tasks_per_module(tasks, modules, each)
