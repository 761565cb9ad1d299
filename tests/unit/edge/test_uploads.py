"""From chosen samples to admitted messages, and the budget over restarts."""

from dataclasses import replace

import numpy as np
import pytest
from tests import tiny

from driftwell.edge.budget import BudgetSettings
from driftwell.edge.domains import Place
from driftwell.edge.packing import Selection
from driftwell.edge.uploads import Origin, Prepared, UploadBudget, decode_state, encode_state
from driftwell.messages.signature import make_signature

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


def placed(count: int, drifts: int, domain: int | None = None) -> Selection:
    signature = make_signature([0.0], [1.0], images=1)
    return replace(selection(count, drifts), place=Place(drifts, domain, signature))


def see(budget: UploadBudget, selected: Selection, *, seen: int = 1) -> list[int]:
    """How many samples each message holds that this batch led to."""
    prepared = budget.prepare(selected, ORIGIN, seen=seen, clock_ns=tiny.NOW_NS)
    return [samples for _, samples in prepared.payloads]


def test_samples_of_small_batches_share_a_message() -> None:
    """Until so many images were seen, whether or not they were chosen; then it begins anew."""
    budget = UploadBudget(BudgetSettings(), gather=8)
    made = [see(budget, selection(seed % 2, seed)) for seed in range(16)]

    assert made == [*[[]] * 7, [4]] * 2
    assert see(budget, selection(9), seen=9) == [9], "a large batch waits for nobody"
    assert not budget.is_gathering


def test_a_shared_message_is_that_of_one_batch() -> None:
    """The same bytes as if its images had come at once, for far fewer than one by one."""
    whole = selection(8)
    budget = UploadBudget(BudgetSettings(), gather=8)
    made = [
        budget.prepare(whole.part(at, at + 1), ORIGIN, seen=1, clock_ns=tiny.NOW_NS)
        for at in range(8)
    ]

    assert made[-1].payloads == prepare(UploadBudget(BudgetSettings()), 8).payloads
    assert sum(sizes(made[-1])) < 8 * sizes(prepare(UploadBudget(BudgetSettings()), 1))[0]


@pytest.mark.parametrize("there", [placed(1, 1), placed(1, 0, domain=3), selection(1)])
def test_domains_do_not_share_a_message(there: Selection) -> None:
    """What is gathered goes by itself, and what came of the new domain at once, too."""
    budget = UploadBudget(BudgetSettings(), gather=64)
    before = [see(budget, placed(1, 0)) for _ in range(3)]

    assert before == [[]] * 3
    assert see(budget, there) == [3, 1]
    assert not budget.is_gathering


def test_what_is_gathered_counts_as_sent() -> None:
    """A share is kept whether samples travel alone or together."""
    alone, together = (UploadBudget(BudgetSettings(share=0.25), gather=n) for n in (1, 64))
    for seed in range(10):
        for budget in (alone, together):
            see(budget, selection(1, seed))

        assert together.rate == pytest.approx(alone.rate)


def test_the_rest_is_what_is_gathered() -> None:
    """Once; nothing is left out at the end of a stream."""
    budget = UploadBudget(BudgetSettings(), gather=64)
    for seed in range(3):
        see(budget, selection(2, seed))
    rest = [budget.rest(ORIGIN, clock_ns=tiny.NOW_NS).payloads for _ in range(2)]

    assert [[samples for _, samples in payloads] for payloads in rest] == [[6], []]
