"""The demo's data: a split nobody learns across, and streams that are the same each time."""

import numpy as np
import pytest

from driftwell.tools.demo.digits import (
    SHAPE,
    Samples,
    Split,
    enlarge,
    make_stream,
    resample,
    shifted,
    split_digits,
)
from driftwell.tools.demo.weather import WEATHERS

IMAGES_IN_SET = 1797


@pytest.fixture(scope="module")
def split() -> Split:
    """The split of seed 3."""
    return split_digits(3)


def test_nothing_held_out_is_trained_on(split: Split) -> None:
    """Both parts together are the data set, and no image is in both."""
    training = {image.tobytes() for image in split.training.images}
    held_out = {image.tobytes() for image in split.held_out.images}

    assert len(split.training) + len(split.held_out) == IMAGES_IN_SET
    assert training & held_out == set()


def test_the_split_is_the_seed_s(split: Split) -> None:
    """The same again for the same seed, another for another."""
    assert np.array_equal(split.training.images, split_digits(3).training.images)
    assert not np.array_equal(split.training.images, split_digits(4).training.images)


def test_images_are_what_the_networks_take(split: Split) -> None:
    """uint8, and the whole range is used."""
    assert split.held_out.images.shape[1:] == SHAPE
    assert split.held_out.images.dtype == np.uint8
    assert split.held_out.images.max() == 255


def test_enlarging_keeps_what_is_flat() -> None:
    """Between equal pixels there is nothing else; the darkest ink is 255."""
    enlarged = enlarge(np.full((2, 8, 8), 16.0))

    assert enlarged.shape == (2, *SHAPE)
    assert (enlarged == 255).all()


def test_shifting_moves_each_image_by_its_own_offset() -> None:
    """Rows first, then columns; what comes in is black."""
    images = np.zeros((2, *SHAPE), np.uint8)
    images[:, 4, 5, 0] = 200

    moved = shifted(images, np.array([[1, 0], [0, -1]]))

    assert moved[0, 5, 5, 0] == moved[1, 4, 4, 0] == 200
    assert np.count_nonzero(moved) == 2


def test_resampling_draws_images_with_their_labels() -> None:
    """A label goes with its image, wherever that was moved to."""
    images = np.zeros((3, *SHAPE), np.uint8)
    images[:, 8, 8, 0] = [10, 20, 30]

    drawn = resample(Samples(images, np.array([1, 2, 3])), 50, np.random.default_rng(0))

    assert np.array_equal(drawn.images.max(axis=(1, 2, 3)), 10 * drawn.labels)


@pytest.mark.parametrize("weather", WEATHERS, ids=lambda weather: weather.name)
def test_the_weather_begins_in_the_middle(split: Split, weather: object) -> None:
    """The first half is what it would be in the clear."""
    chosen = next(known for known in WEATHERS if known is weather)
    stream = make_stream(split.held_out, chosen, 40, np.random.default_rng(5))
    clear = resample(split.held_out, 40, np.random.default_rng(5))

    assert stream.images.dtype == np.uint8
    assert np.array_equal(stream.labels, clear.labels)
    assert np.array_equal(stream.images[:20], clear.images[:20])
    assert not np.array_equal(stream.images[20:], clear.images[20:])
