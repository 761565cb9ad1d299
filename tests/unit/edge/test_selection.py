"""Selectors: what each one prefers, and what all of them promise."""

import numpy as np
import pytest

from driftwell.edge.scoring import score
from driftwell.edge.selection import (
    SELECTORS,
    WRAPPERS,
    Array,
    Head,
    Observation,
    build_selector,
    softmax,
)
from driftwell.messages.errors import ArrayError, SettingsError

CLASSES, WIDTH = 4, 3
WEIGHT = np.random.default_rng(0).standard_normal((CLASSES, WIDTH)).astype(np.float32)
HEAD = Head(CLASSES, WEIGHT, np.zeros(CLASSES, np.float32))
COMBINATIONS = [(name, ()) for name in SELECTORS] + [
    (name, (wrapper,)) for name in SELECTORS for wrapper in WRAPPERS
]


def observed(logits: Array, features: Array | None = None, seed: int = 1) -> Observation:
    return Observation(logits, score(logits).entropy, features, np.random.default_rng(seed))


def forward(features: Array, seed: int = 1) -> Observation:
    return observed(features @ WEIGHT.T, features, seed)


def some_features(count: int = 20, seed: int = 5) -> Array:
    generator = np.random.default_rng(seed)
    return 2 * generator.standard_normal((count, WIDTH)).astype(np.float32)


def best(scores: Array) -> int:
    return int(np.nanargmax(scores))


@pytest.mark.parametrize(("name", "wrappers"), COMBINATIONS)
def test_scores_are_finite_and_not_negative_or_nan(name: str, wrappers: tuple[str, ...]) -> None:
    """One float32 a sample, at least 0; NaN exactly where the network's output was not finite."""
    selector = build_selector(name, HEAD, wrappers=wrappers)
    features = some_features()
    features[3], features[7, 1] = np.nan, np.inf
    for seed in range(3):
        with np.errstate(invalid="ignore"):
            observation = forward(features, seed)

        scores = selector(observation)

        assert scores.dtype == np.float32
        assert scores.shape == (20,)
        assert np.flatnonzero(np.isnan(scores)).tolist() == [3, 7]
        assert (scores[np.isfinite(scores)] >= 0).all()


@pytest.mark.parametrize(("name", "wrappers"), COMBINATIONS)
def test_the_same_seed_and_stream_give_the_same_scores(
    name: str, wrappers: tuple[str, ...]
) -> None:
    """Two selectors of one name that saw the same give the same bits."""
    first, second = (build_selector(name, HEAD, wrappers=wrappers) for _ in range(2))
    for seed in range(4):
        observations = [forward(some_features(seed=seed), seed) for _ in range(2)]

        assert first(observations[0]).tolist() == second(observations[1]).tolist()


@pytest.mark.parametrize(("name", "wrappers"), COMBINATIONS)
def test_bad_samples_do_not_change_the_others(name: str, wrappers: tuple[str, ...]) -> None:
    """A batch that is not finite leaves no trace in what a selector remembers."""
    clean, disturbed = (build_selector(name, HEAD, wrappers=wrappers) for _ in range(2))
    for selector in (clean, disturbed):
        selector(forward(some_features(40)))
    with np.errstate(invalid="ignore"):
        disturbed(forward(np.full((5, WIDTH), np.nan, np.float32)))

    after = forward(some_features(seed=9)), forward(some_features(seed=9))

    assert clean(after[0]).tolist() == disturbed(after[1]).tolist()


@pytest.mark.parametrize("name", SELECTORS)
def test_an_empty_batch_has_no_scores(name: str) -> None:
    """No images give no scores, and no error."""
    empty = Observation(
        np.empty((0, CLASSES), np.float32),
        np.empty(0, np.float32),
        np.empty((0, WIDTH), np.float32),
        np.random.default_rng(1),
    )
    selector = build_selector(name, HEAD, wrappers=tuple(WRAPPERS))

    assert selector(empty).shape == (0,)


def test_what_each_of_the_output_selectors_prefers() -> None:
    """High entropy: the flattest. Margin: the closest race. Band: between certain and not."""
    logits = np.array([[9, 0, 0, 0], [3, 3, -9, -9], [0.1, 0, 0, 0], [3, 0, 0, 0]], np.float32)
    observation = observed(logits)

    preferred = {
        name: best(build_selector(name, HEAD)(observation))
        for name in ("high-entropy", "margin", "entropy-band")
    }

    assert preferred == {"high-entropy": 2, "margin": 1, "entropy-band": 3}


def test_the_band_is_cemas() -> None:
    """Inside E_min < H < E_max the score is over 1/2, outside below it."""
    logits = np.zeros((200, CLASSES), np.float32)
    logits[:, 0] = np.linspace(0, 9, 200)
    observation = observed(logits)

    scores = build_selector("entropy-band", HEAD)(observation)

    share = observation.entropy / np.log(CLASSES)
    inside = (share > 0.02) & (share < 0.4)
    assert ((scores > 0.5) == inside).all()


def test_disagreement_prefers_what_noise_turns_over() -> None:
    """Features at the border of two classes are disturbed more than those far from it."""
    weight = np.array([[1, 0], [-1, 0]], np.float32)
    selector = build_selector("disagreement", Head(2, weight, np.zeros(2, np.float32)))
    features = np.array([[9, 0.1], [0.01, 9], [-9, 0.1]], np.float32)

    scores = selector(observed(features @ weight.T, features))

    assert best(scores) == 1
    assert scores[1] > 10 * max(scores[0], scores[2])


def test_representative_prefers_what_the_centres_do_not_cover() -> None:
    """What comes from where the stream was before scores low, the first batch nothing at all."""
    selector = build_selector("representative", HEAD)
    usual = some_features(200)
    first = selector(forward(usual))
    selector(forward(some_features(200, seed=6)))

    scores = selector(forward(np.concatenate([usual[:20], [[30, 30, 30]]]).astype(np.float32)))

    assert first.tolist() == [0.0] * 200
    assert best(scores) == 20


def test_class_balance_prefers_rare_classes() -> None:
    """With equal scores, a class that was seldom predicted comes first."""
    often = np.tile(np.array([4, 0, 0, 0], np.float32), (500, 1))
    mixed = 4 * np.eye(CLASSES, dtype=np.float32)
    selector = build_selector("high-entropy", HEAD, wrappers=("class-balanced",))
    before = selector(observed(mixed))
    selector(observed(often))

    scores = selector(observed(mixed))

    assert before.tolist() == pytest.approx([float(before[0])] * CLASSES)
    assert scores[1:].tolist() == pytest.approx([float(scores[1])] * 3)
    assert scores[0] < 0.5 * scores[1]


def test_redundancy_prefers_what_is_unlike_the_mean() -> None:
    """With equal entropies, the prediction that is unlike the usual one comes first."""
    often = np.tile(np.array([4, 0, 0, 0], np.float32), (50, 1))
    selector = build_selector("high-entropy", HEAD, wrappers=("non-redundant",))
    for _ in range(20):
        selector(observed(often))

    scores = selector(observed(4 * np.eye(CLASSES, dtype=np.float32)))

    assert scores[0] < 0.2 * scores[1]


def test_softmax_is_a_softmax() -> None:
    """Rows sum to 1; a row that is not finite is NaN as a whole, and spoils nothing else."""
    logits = np.array([[1, 2, 3], [1, np.inf, 0], [3e38, -3e38, 0]], np.float32)

    probability = softmax(logits)

    assert probability[0] == pytest.approx(np.exp([1, 2, 3]) / np.exp([1, 2, 3]).sum())
    assert np.isnan(probability[1]).all()
    assert probability[2].tolist() == [1, 0, 0]


def test_what_does_not_fit_is_refused() -> None:
    """Unknown names, missing heads and features, and wrong shapes are errors of ours."""
    with pytest.raises(SettingsError, match="unknown selector 'best'; there are random"):
        build_selector("best", HEAD)
    with pytest.raises(SettingsError, match="unknown wrapper"):
        build_selector("random", HEAD, wrappers=("best",))
    with pytest.raises(SettingsError, match="weight and bias"):
        build_selector("disagreement", Head(CLASSES))
    for name in ("disagreement", "representative"):
        with pytest.raises(ArrayError, match="needs features"):
            build_selector(name, HEAD)(observed(np.zeros((2, CLASSES), np.float32)))
    for wrapper in WRAPPERS:
        with pytest.raises(ArrayError, match="for 4 classes"):
            build_selector("random", HEAD, wrappers=(wrapper,))(
                observed(np.ones((2, 3), np.float32))
            )
    with pytest.raises(ArrayError, match="features"):
        observed(np.zeros((2, CLASSES), np.float32), np.zeros((3, WIDTH), np.float32))
