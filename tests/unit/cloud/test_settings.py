"""What a cloud may be told, and what is refused before it starts."""

from pathlib import Path

import pytest

from driftwell.cloud.settings import CloudSettings, method_document
from driftwell.messages.errors import SettingsError
from driftwell.tools.configuration import read_settings


def read(*assignments: str) -> CloudSettings:
    return read_settings(
        CloudSettings,
        prefix="DRIFTWELL_CLOUD_",
        assignments=assignments,
        flags={"foundation": Path("f"), "edge": Path("e")},
        defaults={"method": method_document("driftwell")},
    )


def test_a_version_must_fit_into_a_message() -> None:
    """Otherwise every version would be too large to publish, and nobody would get one."""
    with pytest.raises(SettingsError, match=r"limit_bytes may be 95904 at most.*message_limit"):
        read("method.versions.limit_bytes=95905")

    assert read("method.versions.limit_bytes=95904").message_limit_bytes == 100_000
    settings = read("method.versions.limit_bytes=1000000", "message_limit_bytes=2000000")
    assert settings.message_limit_bytes == 2_000_000


def test_a_buffer_must_hold_what_learning_begins_with() -> None:
    """A smaller one would take every sample and never learn from one."""
    with pytest.raises(SettingsError, match=r"first is 128, and replay\.capacity holds 64"):
        read("method.replay.capacity=64")

    assert read("method.replay.capacity=128").method.replay.capacity == 128
