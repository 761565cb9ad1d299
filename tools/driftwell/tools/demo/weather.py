"""Pure. What the weather does to a camera's images: fog, rain and a dirty lens."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from driftwell.messages.images import Pixels

Floats = NDArray[np.float64]
WHITE: Final = 255.0


@dataclass(frozen=True, slots=True)
class Weather:
    """One kind of weather, as it stands in the report."""

    device: str
    name: str
    description: str
    apply: Callable[[Floats, np.random.Generator], Floats]
    """(N, H, W, C) in 0..255 -> the same shape, perhaps beyond 0..255."""

    def over(self, images: Pixels, source: np.random.Generator) -> Pixels:
        """The images as the camera sees them in this weather: uint8, the same shape."""
        seen = self.apply(images.astype(np.float64), source)
        return np.clip(np.rint(seen), 0, WHITE).astype(np.uint8)


FOG_CONTRAST: Final = 0.5
FOG_LIGHT: Final = 45.0
RAIN_SIGMA: Final = 40.0
DIRT_SIGMA: Final = 1.2
DIRT_LIGHT: Final = 0.8


def fog(images: Floats, _source: np.random.Generator) -> Floats:
    """Contrast goes, and everything turns grey."""
    return images * FOG_CONTRAST + FOG_LIGHT


def rain(images: Floats, source: np.random.Generator) -> Floats:
    """Each pixel is off by noise of its own."""
    return images + source.normal(0.0, RAIN_SIGMA, images.shape)


def dirt(images: Floats, _source: np.random.Generator) -> Floats:
    """A smeared lens: blurred, and darker."""
    return blur(images, DIRT_SIGMA) * DIRT_LIGHT


def blur(images: Floats, sigma: float) -> Floats:
    """Gaussian blur of (N, H, W, C) along height and width; outside is black."""
    radius = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (1, 2):
        edges = [(radius, radius) if here == axis else (0, 0) for here in range(images.ndim)]
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(images, edges), len(kernel), axis=axis
        )
        images = windows @ kernel
    return images


WEATHERS: Final = (
    Weather("cam-fog", "fog", f"contrast x {FOG_CONTRAST}, grey + {FOG_LIGHT:.0f}", fog),
    Weather("cam-rain", "rain", f"Gaussian noise, sigma {RAIN_SIGMA:.0f} of 255", rain),
    Weather("cam-dirt", "dirt", f"blur, sigma {DIRT_SIGMA} pixels, light x {DIRT_LIGHT}", dirt),
)
