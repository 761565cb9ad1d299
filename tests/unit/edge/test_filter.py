"""CEMA's two exclusions, at their bounds and as they move."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftwell.edge.filter import FilterSettings, FilterState, Verdict, entropy_bounds, judge

LN4 = math.log(4)
LARGEST = float(np.float32(LN4))
WARM = FilterState(seen=100, entropy_sum=50.0, reference_mean=0.5)


def judged(settings: FilterSettings, state: FilterState, *entropy: float) -> list[Verdict]:
    values = np.array(entropy, dtype=np.float32)
    return [Verdict(int(v)) for v in judge(settings, state, values, 4).verdicts]


def test_both_bounds_are_excluded() -> None:
    """H = E_min is too certain, H = E_max too uncertain; one bit further in is selected."""
    settings = FilterSettings(e_min=0.25 / LN4, e_max=0.5 / LN4)
    lower, upper = entropy_bounds(settings, FilterState(), 4)
    assert (lower, upper) == pytest.approx((0.25, 0.5))
    low, high = np.float32(lower), np.float32(upper)
    inside = [float(np.nextafter(low, np.float32(1))), float(np.nextafter(high, np.float32(0)))]

    verdicts = judged(settings, FilterState(), 0.0, float(low), *inside, float(high), LN4)

    assert verdicts == [
        Verdict.TOO_CERTAIN, Verdict.TOO_CERTAIN, Verdict.SELECTED, Verdict.SELECTED,
        Verdict.TOO_UNCERTAIN, Verdict.TOO_UNCERTAIN,
    ]  # fmt: skip


def test_the_upper_bound_follows_the_mean_entropy() -> None:
    """E_max(t) = lambda * E_max(0) * mean(t) / mean(warm-up), the present batch included."""
    settings = FilterSettings(e_max=0.4, lambda_=0.5)
    entropy = np.full(100, 0.1, dtype=np.float32)

    judgement = judge(settings, WARM, entropy, 4)

    mean = (50.0 + 10.0) / 200
    assert judgement.entropy_max_nats == pytest.approx(0.5 * 0.4 * LN4 * mean / 0.5, rel=1e-6)
    assert judgement.state.mean == pytest.approx(mean)
    assert judgement.state.reference_mean == 0.5


def test_the_bound_stands_still_during_the_warm_up() -> None:
    """Until so many samples were seen E_max is E_max(0); then their mean is the reference."""
    settings = FilterSettings(warm_up_samples=8, lambda_=0.5)
    first = judge(settings, FilterState(), np.full(7, 0.3, np.float32), 4)
    second = judge(settings, first.state, np.full(1, 0.7, np.float32), 4)

    assert first.entropy_max_nats == pytest.approx(0.4 * LN4)
    assert first.state.reference_mean is None
    assert second.state.reference_mean == pytest.approx((7 * 0.3 + 0.7) / 8)
    assert second.entropy_max_nats == pytest.approx(0.5 * 0.4 * LN4)


@given(
    finite=st.lists(st.floats(0, LARGEST, width=32), max_size=8),
    bad=st.lists(st.sampled_from([math.nan, math.inf, -math.inf]), min_size=1, max_size=4),
)
def test_what_is_not_finite_is_never_selected_nor_remembered(
    finite: list[float], bad: list[float]
) -> None:
    """The verdicts and the state are as if the bad samples had not been there."""
    settings = FilterSettings(warm_up_samples=4)

    mixed = judge(settings, WARM, np.array(bad + finite, dtype=np.float32), 4)
    clean = judge(settings, WARM, np.array(finite, dtype=np.float32), 4)

    assert set(mixed.verdicts[: len(bad)].tolist()) == {int(Verdict.NOT_FINITE)}
    assert mixed.verdicts[len(bad) :].tolist() == clean.verdicts.tolist()
    assert mixed.state == clean.state


@given(
    entropy=st.lists(st.floats(0, LARGEST, width=32), min_size=1, max_size=40),
    e_min=st.floats(0, 0.5),
    e_max=st.floats(0.01, 1),
)
def test_selected_is_what_lies_between(entropy: list[float], e_min: float, e_max: float) -> None:
    """Selected is exactly E_min < H < E_max with the bounds the judgement names."""
    settings = FilterSettings(e_min=e_min, e_max=e_max, warm_up_samples=5)
    values = np.array(entropy, dtype=np.float32)

    judgement = judge(settings, FilterState(), values, 4)

    lower, upper = entropy_bounds(settings, judgement.state, 4)
    assert upper == judgement.entropy_max_nats
    expected = (values > lower) & (values < upper)
    selected = judgement.verdicts == Verdict.SELECTED
    assert selected.tolist() == expected.tolist()


def test_verdicts_have_words() -> None:
    """The words of logs and predictions are these five."""
    words = [verdict.word for verdict in Verdict]
    assert words == ["selected", "too-certain", "too-uncertain", "not-finite", "not-chosen"]
