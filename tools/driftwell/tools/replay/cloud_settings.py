"""The settings a recorded cloud is repeated with: the recording's, and the user's over them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from driftwell.cloud.settings import CloudSettings, method_document
from driftwell.messages.errors import RecordingError, SettingsError
from driftwell.recording.form import CLOUD_SETTINGS
from driftwell.tools.configuration import read_settings

DECISIVE: Final = frozenset({"method", "seed", "cohorts", "pending_limit", "message_limit_bytes"})
"""What a version's bits depend on; where things were on the recorded machine does not matter."""
DEFAULT_METHOD: Final = "cema"


def repeated_settings(
    documents: Mapping[str, str],
    *,
    group: str,
    method: str | None,
    file: Path | None,
    assignments: Iterable[str],
    flags: Mapping[str, object],
) -> CloudSettings:
    """Build the settings; later wins: recording, `method`, file, `assignments`, flags.

    The environment is left out: it is of the machine, and would change the versions unseen.

    Args:
        documents: Of the recording.
        group: Whose messages are replayed.
        method: Replaces the recorded method whole; None keeps it.
        file: TOML file, or None.
        assignments: `key=value`.
        flags: By setting name; None means not given.

    Raises:
        SettingsError: what is wrong with file, assignments or flags.
        RecordingError: if the recorded settings cannot be read.
    """
    recorded = recorded_settings(documents)
    if method is not None or "method" not in recorded:
        recorded["method"] = method_document(method or DEFAULT_METHOD)
    _require_readable(recorded)
    return read_settings(
        CloudSettings,
        defaults=recorded,
        file=file,
        assignments=assignments,
        flags={**flags, "group": group},
    )


def recorded_settings(documents: Mapping[str, str]) -> dict[str, Any]:
    """What the recording says about its cloud; empty if it says nothing.

    Raises:
        RecordingError: if it cannot be read.
    """
    text = documents.get(CLOUD_SETTINGS)
    if text is None:
        return {}
    try:
        document = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise RecordingError(
            f"the recording's {CLOUD_SETTINGS} is not understood ({error}); the file was altered"
        ) from error
    return {name: value for name, value in document.items() if name in DECISIVE}


def _require_readable(recorded: Mapping[str, Any]) -> None:
    """Blame the recording for what is wrong in it, and not the user."""
    try:
        read_settings(CloudSettings, defaults={**recorded, "edge": Path(), "foundation": Path()})
    except SettingsError as error:
        raise RecordingError(
            f"the recording's {CLOUD_SETTINGS} is not of this release ({error}); replay it with "
            "the release that wrote it, or give --method"
        ) from error
