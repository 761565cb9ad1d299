"""The settings a recorded cloud is repeated with: the recording's, and the user's over them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from driftwell.cloud.settings import DEFAULT_METHOD, CloudSettings, method_document
from driftwell.messages.errors import RecordingError, SettingsError
from driftwell.recording.documents import cloud_document, foundation_document
from driftwell.tools.configuration import read_settings

DECISIVE: Final = frozenset(
    {"method", "seed", "start", "cohorts", "pending_limit", "expiry_days", "message_limit_bytes"}
)
"""What a version's bits depend on; where things were on the recorded machine does not matter.

But for `start`, a bundle: it is looked for where it was, or given by `--set start=`.
"""
ELSEWHERE: Final = {
    "edge": "use --edge",
    "foundation": "use --foundation",
    "group": "use --group",
    "state_dir": "use --state",
    "threads": "use --threads",
    "broker": "there is none",
    "metrics_port": "there is none",
}
"""Settings of a cloud that a replay takes from elsewhere, and from where."""


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
    assignments = tuple(assignments)
    for assignment in assignments:
        if (key := assignment.partition("=")[0].strip()) in ELSEWHERE:
            raise SettingsError(f"--set {key} decides nothing in a replay; {ELSEWHERE[key]}")
    recorded = recorded_settings(documents, group)
    if method is not None or "method" not in recorded:
        recorded["method"] = method_document(method or DEFAULT_METHOD)
    _require_readable(recorded, group)
    return read_settings(
        CloudSettings,
        defaults=recorded,
        file=file,
        assignments=assignments,
        flags={**flags, "group": group},
    )


def recorded_settings(documents: Mapping[str, str], group: str) -> dict[str, Any]:
    """What the recording says about a group's cloud; empty if it says nothing.

    Raises:
        RecordingError: if it cannot be read.
    """
    name = cloud_document(group)
    text = documents.get(name)
    if text is None:
        return {}
    try:
        document = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise RecordingError(
            f"the recording's {name} is not understood ({error}); the file was altered"
        ) from error
    return {setting: value for setting, value in document.items() if setting in DECISIVE}


def is_other_foundation(documents: Mapping[str, str], group: str, digest: str) -> bool:
    """Whether a recording says that another foundation bundle than this one taught a group."""
    return documents.get(foundation_document(group), digest) != digest


def _require_readable(recorded: Mapping[str, Any], group: str) -> None:
    """Blame the recording for what is wrong in it, and not the user."""
    try:
        read_settings(CloudSettings, defaults={**recorded, "edge": Path(), "foundation": Path()})
    except SettingsError as error:
        raise RecordingError(
            f"the recording's {cloud_document(group)} is not of this release ({error}); replay "
            "it with the release that wrote it, or give --method"
        ) from error
