"""Which sub-model a device runs when its limits change, without asking anybody."""

import numpy as np

from driftwell.edge.fitting import FALLBACK, Fitting, Option, fit, fits, worth

SMALL = Option(1, ((0,), (0,)), {"memory_bytes": 10.0})
OTHER = Option(2, ((1,), (1,)), {"memory_bytes": 10.0})
LARGE = Option(3, ((0, 1), (0, 1)), {"memory_bytes": 30.0, "latency_ms": 5.0})
IMPORTANCE = (np.array([0.7, 0.3], np.float32), np.array([0.6, 0.4], np.float32))
PATIENCE_S = 5.0


def decide(
    fitting: Fitting, limits: dict[str, float], *, now_s: float = 0.0, told: int | None = None,
    options: tuple[Option, ...] = (SMALL, OTHER, LARGE),
) -> Fitting:  # fmt: skip
    return fit(fitting, options, limits, IMPORTANCE, now_s=now_s, patience_s=PATIENCE_S, told=told)


def test_a_cost_counts_against_its_own_limit() -> None:
    """What is not limited is within, and what a download took says nothing about running."""
    assert fits({"memory_bytes": 10.0, "latency_ms": 99.0}, {"memory_bytes": 10.0})
    assert not fits({"memory_bytes": 10.1}, {"memory_bytes": 10.0})
    assert fits({"download_bytes": 99.0}, {"download_bytes": 1.0})


def test_the_clouds_newest_runs_at_once_if_it_fits() -> None:
    """Who was just told does not wait."""
    assert decide(Fitting(1), {}, told=3) == Fitting(3)


def test_over_a_limit_it_goes_to_the_best_that_fits_at_once() -> None:
    """The one with most of what the device's images need, not the newest of the smaller ones."""
    assert decide(Fitting(3), {"memory_bytes": 20.0}) == Fitting(1)
    assert worth(SMALL, IMPORTANCE) > worth(OTHER, IMPORTANCE)


def test_the_newest_of_the_smaller_ones_runs_where_nothing_is_measured() -> None:
    """Before the device has seen an image."""
    decided = fit(
        Fitting(3), (SMALL, OTHER, LARGE), {"memory_bytes": 20.0}, (), now_s=0.0, patience_s=5.0
    )

    assert decided == Fitting(2)


def test_the_fallback_runs_where_nothing_fits() -> None:
    """At once, and without the cloud; with no sub-model at all it runs anyway."""
    assert decide(Fitting(3), {"memory_bytes": 5.0}) == Fitting(FALLBACK)
    assert decide(Fitting(), {}, options=()) == Fitting(FALLBACK)


def test_it_goes_back_only_after_the_limits_have_allowed_it_for_a_while() -> None:
    """A limit that wobbles starts the wait anew."""
    fitting = decide(Fitting(1), {}, now_s=10.0)
    assert fitting == Fitting(1, better=3, since_s=10.0)
    assert decide(fitting, {}, now_s=14.9) == fitting
    assert decide(fitting, {}, now_s=15.0) == Fitting(3)

    wobbled = decide(fitting, {"memory_bytes": 20.0}, now_s=12.0)
    assert wobbled == Fitting(1)
    assert decide(wobbled, {}, now_s=15.0) == Fitting(1, better=3, since_s=15.0)


def test_it_leaves_the_fallback_as_patiently() -> None:
    """A smaller one that fits again is not trusted sooner."""
    limits = {"memory_bytes": 20.0}
    fitting = decide(Fitting(FALLBACK), limits, now_s=0.0)

    assert fitting == Fitting(FALLBACK, better=1, since_s=0.0)
    assert decide(fitting, limits, now_s=5.0) == Fitting(1)


def test_what_the_cloud_sent_last_is_not_left_while_it_fits() -> None:
    """However much more an older one is worth."""
    smaller = Option(4, ((1,), (1,)), {"memory_bytes": 10.0})

    assert decide(Fitting(4), {}, options=(LARGE, smaller)) == Fitting(4)
