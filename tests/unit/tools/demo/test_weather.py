"""The demo's weathers change images as they say, and the same way each time."""

import numpy as np
import pytest

from driftwell.tools.demo.weather import WEATHERS, Weather, blur

IMAGES = np.random.default_rng(7).integers(0, 256, (5, 16, 16, 1), dtype=np.uint8)


def ids(weather: Weather) -> str:
    """A weather's name."""
    return weather.name


@pytest.mark.parametrize("weather", WEATHERS, ids=ids)
def test_a_weather_keeps_shape_and_type(weather: Weather) -> None:
    """What a camera sends in bad weather is still what the model takes."""
    seen = weather.over(IMAGES, np.random.default_rng(1))

    assert seen.shape == IMAGES.shape
    assert seen.dtype == np.uint8
    assert not np.array_equal(seen, IMAGES)


@pytest.mark.parametrize("weather", WEATHERS, ids=ids)
def test_a_weather_is_the_same_for_the_same_seed(weather: Weather) -> None:
    """The demo shows the same images whenever it is run."""
    first = weather.over(IMAGES, np.random.default_rng(1))
    second = weather.over(IMAGES, np.random.default_rng(1))

    assert np.array_equal(first, second)


def test_each_camera_has_a_name_of_its_own() -> None:
    """They are devices of one group."""
    assert len({weather.device for weather in WEATHERS}) == len(WEATHERS)


def test_blur_spreads_a_point_and_keeps_its_light() -> None:
    """Inside the frame nothing is lost, and it is the same up and down, left and right."""
    point = np.zeros((1, 17, 17, 1))
    point[0, 8, 8, 0] = 100.0

    seen = blur(point, 1.2)

    assert seen.shape == point.shape
    assert seen.sum() == pytest.approx(100.0)
    assert seen[0, 8, 8, 0] == seen.max() < 50.0
    assert np.allclose(seen[0, :, :, 0], seen[0, ::-1, ::-1, 0].T)
