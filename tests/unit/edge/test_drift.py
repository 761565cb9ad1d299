"""The drift detector on simulated stems: delay, false alarms, and what it remembers."""

import math

import numpy as np
import pytest

from driftwell.edge.drift import (
    DriftSettings,
    DriftState,
    DriftVerdict,
    forget_output,
    thresholds,
    watch,
)
from driftwell.messages.errors import ArrayError
from driftwell.messages.signature import Signature, make_signature

CHANNELS = 8
SETTINGS = DriftSettings()
Domain = tuple[float, float, float]
"""Mean and standard deviation of all channels, and mean entropy in nats."""
CALM: Domain = (0.0, 1.0, 0.4)
BRIGHT: Domain = (0.8, 1.0, 0.4)
FLAT: Domain = (0.0, 0.5, 0.4)
UNSURE: Domain = (0.0, 1.0, 0.9)
LOST: Domain = (0.0, 1.0, 1.6)


class Stream:
    """Batches of a domain in which images differ, and the alarms the detector gave."""

    def __init__(self, batch: int, seed: int = 1, settings: DriftSettings = SETTINGS) -> None:
        self.batch, self.settings = batch, settings
        self.generator = np.random.default_rng(seed)
        self.state = DriftState()
        self.seen = 0
        self.design_effect = 1.0
        self.alarms: list[tuple[int, str | None]] = []

    def measure(self, domain: Domain) -> tuple[Signature, float]:
        mean, deviation, entropy = domain
        shape = (self.batch, CHANNELS)
        means = mean + 0.3 * deviation * self.generator.standard_normal(shape)
        within = deviation**2 * self.generator.uniform(0.6, 1.4, shape)
        certain = self.generator.gamma(1.0, entropy, self.batch).mean()
        variance = within.mean(0) + means.var(0)
        return make_signature(means.mean(0), variance, images=self.batch), float(certain)

    def run(self, domain: Domain, images: int) -> list[tuple[int, str | None]]:
        """Alarms by images since this domain began."""
        self.alarms, self.seen = [], 0
        while self.seen < images:
            verdict = watch(
                self.settings,
                self.state,
                *self.measure(domain),
                design_effect=self.design_effect,
            )
            self.state, self.seen = verdict.state, self.seen + self.batch
            if verdict.drifted:
                self.alarms.append((self.seen, verdict.cause))
        return self.alarms


@pytest.mark.parametrize("batch", [1, 8, 64, 200])
@pytest.mark.parametrize(
    ("domain", "cause"), [(BRIGHT, "statistics"), (FLAT, "statistics"), (UNSURE, "output")]
)
def test_a_hard_switch_is_seen_once_and_soon(batch: int, domain: Domain, cause: str) -> None:
    """After 1,280 calm images a switch gives one alarm within 128 images, or two batches."""
    stream = Stream(batch)

    assert stream.run(CALM, 1280) == []
    alarms = stream.run(domain, 1280)
    assert [word for _, word in alarms] == [cause]
    assert alarms[0][0] <= max(128, 2 * batch)


@pytest.mark.parametrize("batch", [1, 64])
def test_a_calm_stream_gives_no_alarm(batch: int) -> None:
    """100,000 images of one domain give none (10,000 one by one)."""
    assert Stream(batch, seed=2).run(CALM, 100_000 if batch > 1 else 10_000) == []


def test_a_stream_that_swings_all_the_time_is_not_drifting() -> None:
    """Runs of alike images, as of one class, give no alarm where the answers tell them apart."""
    alarms = {}
    for design_effect in (1.0, 8.0):
        stream, generator = Stream(64), np.random.default_rng(3)
        stream.design_effect = design_effect
        alarms[design_effect] = 0
        for _ in range(200):
            swing = (float(generator.uniform(-0.25, 0.25)), 1.0, 0.4)
            alarms[design_effect] += len(stream.run(swing, 192))

    assert alarms[8.0] == 0
    assert alarms[1.0] > 0


def test_two_halves_add_up() -> None:
    """Both numbers at 0.8 of their thresholds are a drift, one of them alone is not."""
    settings = DriftSettings(warm_up_images=64, short_weight=1.0)
    calm = make_signature([0.0], [1.0], images=64)
    state = watch(settings, DriftState(), calm, 0.4).state
    statistics, output = thresholds(settings, state)
    shifted = make_signature([math.sqrt(0.8 * statistics * 2)], [1.0], images=64)
    risen = 0.4 + 0.8 * output

    verdicts = [
        watch(settings, state, *seen) for seen in ((shifted, 0.4), (calm, risen), (shifted, risen))
    ]

    assert [verdict.drifted for verdict in verdicts] == [False, False, True]
    assert verdicts[0].distance == pytest.approx(0.8 * statistics)
    assert verdicts[1].entropy_change == pytest.approx(0.8 * output)


def test_in_runs_changes_must_be_larger() -> None:
    """Four images worth one: four times the distance, twice the entropy, up to the ceiling."""
    settings = DriftSettings(statistics_ceiling=1.0, output_ceiling_nats=1.5)
    nothing_known = DriftState()
    calm = DriftState(statistics_noise=1e-9, output_noise=1e-9)

    for state in (nothing_known, calm):
        distance, change = thresholds(settings, state)
        assert thresholds(settings, state, 4.0) == pytest.approx((4 * distance, 2 * change))
    assert thresholds(settings, nothing_known, 64.0) == (1.0, 1.5)


def test_what_is_a_drift_in_random_order_is_none_in_runs() -> None:
    """The same blocks; the verdict says the same distance."""
    settings = DriftSettings(warm_up_images=64, short_weight=1.0)
    state = watch(settings, DriftState(), make_signature([0.0], [1.0], images=64), 0.4).state
    shifted = make_signature([0.5], [1.0], images=64)

    alone, in_runs = (
        watch(settings, state, shifted, 0.4, design_effect=effect) for effect in (1.0, 16.0)
    )

    assert (alone.drifted, in_runs.drifted) == (True, False)
    assert alone.distance == in_runs.distance


def test_nothing_is_tested_before_the_warm_up_nor_on_half_a_block() -> None:
    """A verdict without numbers says that no block was tested."""
    stream = Stream(32)
    verdicts = []
    for _ in range(10):
        verdicts.append(watch(SETTINGS, stream.state, *stream.measure(CALM)))
        stream.state = verdicts[-1].state

    tested = [verdict.distance is not None for verdict in verdicts]
    assert tested == [False] * 9 + [True]


def test_the_detector_starts_anew_after_a_drift() -> None:
    """Nothing of before is left, so coming back is a drift again."""
    stream = Stream(64)
    stream.run(CALM, 1280)
    state = stream.state
    while not (verdict := watch(SETTINGS, state, *stream.measure(BRIGHT))).drifted:
        state = verdict.state

    assert verdict.state == DriftState()
    stream.state = verdict.state
    assert stream.run(BRIGHT, 1280) == []
    assert [word for _, word in stream.run(CALM, 1280)] == ["statistics"]


def test_a_swap_of_the_version_is_no_drift() -> None:
    """Told of a swap, the detector takes the entropies after it for the usual ones."""
    told, untold = Stream(64), Stream(64)
    untold.run(LOST, 1280)
    assert [word for _, word in untold.run(CALM, 1280)] == ["output"]
    told.run(LOST, 1280)
    told.state = forget_output(told.state)

    assert told.run(CALM, 1280) == []
    told.state = forget_output(told.state)
    assert [word for _, word in told.run((0.8, 1.0, 0.9), 1280)] == ["statistics"]


def test_after_a_swap_the_output_is_watched_again() -> None:
    """Once a warm-up has passed a rise of the entropy counts."""
    stream = Stream(64)
    stream.run(CALM, 640)
    stream.state = forget_output(stream.state)
    stream.run(CALM, 640)

    assert [word for _, word in stream.run(UNSURE, 640)] == ["output"]


@pytest.mark.parametrize("entropy", [math.nan, math.inf, -0.1])
def test_what_is_no_entropy_is_refused(entropy: float) -> None:
    """The caller leaves out batches without a finite entropy."""
    with pytest.raises(ArrayError, match="entropy"):
        watch(SETTINGS, DriftState(), make_signature([0.0], [1.0], images=1), entropy)


def test_another_model_is_refused() -> None:
    """A signature of other channels is an error, not a drift."""
    state = watch(SETTINGS, DriftState(), make_signature([0.0], [1.0], images=1), 0.1).state
    with pytest.raises(ArrayError, match="channels"):
        watch(SETTINGS, state, make_signature([0.0] * 2, [1.0] * 2, images=1), 0.1)


def test_thresholds_stay_between_their_bounds() -> None:
    """A dead calm stream ends at the floors; a fresh one begins at twice as much."""
    signature, verdict = make_signature([0.0], [1.0], images=64), DriftVerdict(DriftState())
    first = thresholds(SETTINGS, verdict.state)
    for _ in range(100):
        verdict = watch(SETTINGS, verdict.state, signature, 0.4)

    assert first == (2 * SETTINGS.statistics_floor, 2 * SETTINGS.output_floor_nats)
    assert thresholds(SETTINGS, verdict.state) == (
        SETTINGS.statistics_floor,
        SETTINGS.output_floor_nats,
    )


def test_floors_above_ceilings_are_refused() -> None:
    """Settings that contradict each other are an error."""
    with pytest.raises(ValueError, match="statistics_floor"):
        DriftSettings(statistics_floor=1.0, statistics_ceiling=0.5)
    with pytest.raises(ValueError, match="output_floor_nats"):
        DriftSettings(output_floor_nats=1.5)
