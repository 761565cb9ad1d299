"""Pure. The one validator of every name that appears in a topic, a message or a path.

A name is one to 48 characters of `[a-z0-9-]`, so that it is safe as a topic level,
a folder name and a metric label, and a topic stays under 200 bytes.

A cohort has domains: its first, 0, goes by the cohort's own name, another by `NAME/NUMBER`. Each
is a cohort of its own, but for the devices, which come from the same one.
"""

import re
from typing import Final

from driftwell.messages.errors import SettingsError

NAME_PATTERN: Final = r"^[a-z0-9](?:[a-z0-9-]{0,47})\Z"  # "$" would let a newline follow
MAX_DOMAIN: Final = 9999
COHORT_PATTERN: Final = NAME_PATTERN.removesuffix(r"\Z") + r"(?:/[1-9][0-9]{0,3})?\Z"
EVERYONE: Final = "_"
"""Stands in the device level of topics that belong to no single device."""

_NAME: Final = re.compile(NAME_PATTERN)
_COHORT: Final = re.compile(COHORT_PATTERN)


def is_name(text: str) -> bool:
    """Whether `text` may be used as a device, group or cohort name."""
    return _NAME.fullmatch(text) is not None


def is_cohort_name(text: str) -> bool:
    """Whether `text` is the name of a cohort, or of a domain of one."""
    return _COHORT.fullmatch(text) is not None


def domain_name(cohort: str, domain: int) -> str:
    """What a domain of a cohort, 0 to MAX_DOMAIN, goes by."""
    return f"{cohort}/{domain}" if domain else cohort


def split_domain(name: str) -> tuple[str, int]:
    """The cohort and the number of what `domain_name` made."""
    cohort, _, domain = name.partition("/")
    return cohort, int(domain or 0)


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


def require_cohort_name(text: str, *, what: str) -> str:
    """Return `text` if it is the name of a cohort, or of a domain of one.

    Raises:
        SettingsError: if it is not; the message says what is.
    """
    if not is_cohort_name(text):
        require_name(text.partition("/")[0], what=what)
        raise SettingsError(
            f"{what} {text!r} is not a valid name of a domain: use NAME/NUMBER with a number "
            f"of 1 to {MAX_DOMAIN}, without leading zeros"
        )
    return text
