"""Pure. Something a device did with a version, told once."""

from typing import Literal

from driftwell.messages.envelope import Count, Envelope, Text


class Event(Envelope, frozen=True, kw_only=True, tag="event"):
    """A version was applied, refused or taken back, or the device noticed a change."""

    event: Literal["applied", "refused", "reverted", "drift", "budget"]
    version: Count
    code: str = ""
    """With `refused`: the RefusalCode."""
    detail: Text = ""
    lag_s: float | None = None
    """With `applied`: seconds since the newest sample the version learned from."""
