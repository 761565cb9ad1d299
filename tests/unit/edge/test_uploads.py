"""From chosen samples to admitted messages, and the budget over restarts."""

import numpy as np
import pytest
from tests import tiny

from driftwell.edge.budget import BudgetSettings
from driftwell.edge.packing import Selection
from driftwell.edge.uploads import Origin, Prepared, UploadBudget, decode_state, encode_state

ORIGIN = Origin("cam-1", "home", "a" * 64, limit_bytes=100_000, quality=None, overhead_bytes=50)


def selection(count: int, seed: int = 0) -> Selection:
    return Selection(
        tiny.make_images(count, seed),
        np.arange(count, dtype=np.uint64),
        np.zeros(count, np.float32),
        np.zeros(count, np.uint16),
    )


def prepare(budget: UploadBudget, count: int, seed: int = 0) -> Prepared:
    return budget.prepare(selection(count, seed), ORIGIN, seen=64, clock_ns=tiny.NOW_NS)


def sizes(prepared: Prepared) -> list[int]:
    return [len(payload) + ORIGIN.overhead_bytes for payload, _ in prepared.payloads]


def test_without_limits_everything_goes() -> None:
    """The default budget has none."""
    prepared = prepare(UploadBudget(BudgetSettings()), 10)

    assert [samples for _, samples in prepared.payloads] == [10]
    assert not prepared.dropped


def test_not_one_byte_over_the_total() -> None:
    """Whole packets count; what does not fit is dropped, under its own name."""
    one = sizes(prepare(UploadBudget(BudgetSettings()), 10))[0]
    budget = UploadBudget(BudgetSettings(bytes_total=3 * one))
    made = [prepare(budget, 10, seed) for seed in range(5)]

    sent = sum(sum(sizes(prepared)) for prepared in made)
    assert 0 < sent <= 3 * one
    dropped = sum(prepared.dropped["dropped:over-budget"] for prepared in made)
    stored = sum(samples for prepared in made for _, samples in prepared.payloads)
    assert dropped > 0
    assert dropped + stored == 50


def test_a_share_lowers_the_rate_when_too_much_was_sent() -> None:
    """It begins at the share, and falls below it after a batch that was sent whole."""
    budget = UploadBudget(BudgetSettings(share=0.25))
    before = budget.rate
    prepare(budget, 64)

    assert before == pytest.approx(0.25)
    assert budget.rate == 0.0


def test_the_budget_survives_a_restart() -> None:
    """Its state comes back whole; damage is no state, not a crash."""
    budget = UploadBudget(BudgetSettings(bytes_total=20_000))
    prepare(budget, 10)

    again = UploadBudget(
        BudgetSettings(bytes_total=20_000), decode_state(encode_state(budget.state))
    )

    assert again.state == budget.state
    assert decode_state(None) is None
    assert decode_state(b"{") is None


def test_a_drift_makes_room_on_top_of_the_share() -> None:
    """For so many samples, once; without a share there is nothing to add to."""
    settings = BudgetSettings(share=0.1, drift_samples=64)
    calm, shaken = UploadBudget(settings), UploadBudget(settings)
    for budget, has_drifted in ((calm, False), (shaken, True)):
        budget.prepare(selection(6), ORIGIN, seen=64, clock_ns=tiny.NOW_NS, has_drifted=has_drifted)

    assert calm.rate < 0.12
    assert shaken.rate == 1.0
    assert shaken.state.debt == pytest.approx(calm.state.debt + 64)
    prepare(shaken, 64)
    assert shaken.rate < 0.3
    free = UploadBudget(BudgetSettings())
    free.prepare(selection(6), ORIGIN, seen=64, clock_ns=tiny.NOW_NS, has_drifted=True)
    assert free.state.debt == 0


def test_a_drift_makes_no_room_in_bytes() -> None:
    """The total is hard, whatever happens in front of the camera."""
    one = sizes(prepare(UploadBudget(BudgetSettings()), 10))[0]
    budget = UploadBudget(BudgetSettings(share=0.5, bytes_total=2 * one))
    sent = [
        size
        for seed in range(5)
        for size in sizes(
            budget.prepare(
                selection(10, seed), ORIGIN, seen=64, clock_ns=tiny.NOW_NS, has_drifted=True
            )
        )
    ]

    assert 0 < sum(sent) <= 2 * one
