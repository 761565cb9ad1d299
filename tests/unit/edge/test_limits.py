"""A device's limits: in which forms they are needed, and how they change while it runs."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from driftwell.edge.limits import limit_amounts, limits_message, parse_limits
from driftwell.edge.limits_file import LimitsFile
from driftwell.edge.settings import ModelLimitSettings
from driftwell.edge.usage import WINDOW, Usage, observe
from driftwell.messages.errors import SettingsError
from driftwell.messages.state import ModelLimits


def test_limits_are_the_same_in_every_form() -> None:
    """What is not limited is absent."""
    limits = parse_limits("memory_bytes = 1000\nlatency_ms = 2.5")

    assert limits == ModelLimitSettings(memory_bytes=1000, latency_ms=2.5)
    assert limits_message(limits) == ModelLimits(memory_bytes=1000, latency_ms=2.5)
    assert limits_message(limits).download_bytes is msgspec.UNSET
    assert limit_amounts(limits) == {"memory_bytes": 1000.0, "latency_ms": 2.5}


@pytest.mark.parametrize(
    "text",
    [
        "memory_bytes = 0",
        "latency_ms = -1",
        "memory = 5",
        "memory_bytes = 'all'",
        "[",
        "=",
        "memory_bytes = " + 5000 * "9",
        "memory_bytes = " + 30_000 * "[",
    ],
)
def test_nonsense_is_no_limit(text: str) -> None:
    """It is said which keys there are."""
    with pytest.raises(SettingsError, match="known are memory_bytes"):
        parse_limits(text)


def test_a_file_of_limits_is_news_when_it_changes(tmp_path: Path) -> None:
    """Nonsense, and a file that is gone, are told once; then what it says next counts."""
    path = tmp_path / "limits.toml"
    file = LimitsFile(path)
    with pytest.raises(SettingsError, match="cannot be read"):
        file.look()
    assert file.look() is None

    path.write_text("memory_bytes = 1000")
    assert file.look() == ModelLimitSettings(memory_bytes=1000)
    assert file.look() is None

    path.write_bytes(b"memory_bytes = \xff")
    with pytest.raises(SettingsError, match="holds no limits"):
        file.look()
    assert file.look() is None

    path.write_text("")
    assert file.look() == ModelLimitSettings()


def test_usage_is_a_mean_over_the_newest_images() -> None:
    """Exact at first; later the older images count less and less. Broken batches do not."""
    one, two = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    usage = observe(observe(Usage(), [one], 10), [two], 30)
    np.testing.assert_allclose(usage.importance[0], [0.25, 0.75])
    assert usage.images == 40

    assert observe(usage, [np.array([np.nan, 0], np.float32)], 1) is usage
    for _ in range(200):
        usage = observe(usage, [one], 32)

    np.testing.assert_allclose(usage.importance[0], [1, 0], atol=1e-4)
    assert usage.images == WINDOW
