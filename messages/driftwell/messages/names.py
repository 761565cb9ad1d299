"""Pure. The one validator of every name that appears in a topic, a message or a path.

A name is one to 48 characters of `[a-z0-9-]`, so that it is safe as a topic level,
a folder name and a metric label, and a topic stays under 200 bytes.
"""

import re
from typing import Final

from driftwell.messages.errors import SettingsError

NAME_PATTERN: Final = r"^[a-z0-9](?:[a-z0-9-]{0,47})\Z"  # "$" would let a newline follow
EVERYONE: Final = "_"
"""Stands in the device level of topics that belong to no single device."""

_NAME: Final = re.compile(NAME_PATTERN)


def is_name(text: str) -> bool:
    """Whether `text` may be used as a device, group or cohort name."""
    return _NAME.fullmatch(text) is not None


def require_name(text: str, *, what: str) -> str:
    """Return `text` if it is a name.

    Raises:
        SettingsError: if it is not; the message says which characters are allowed.
    """
    if not is_name(text):
        raise SettingsError(
            f"{what} {text!r} is not a valid name: use 1 to 48 of a-z, 0-9 and '-', "
            "starting with a letter or digit"
        )
    return text
