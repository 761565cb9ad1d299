"""Pure. Something a device did with a version, told once."""

from typing import Annotated, Literal

import msgspec

from driftwell.messages.envelope import Count, Envelope, Finite, Text


class Event(Envelope, frozen=True, kw_only=True, tag="event"):
    """A version was applied, refused or taken back, or the device noticed a change."""

    event: Literal["applied", "refused", "reverted", "drift", "recalled", "budget"]
    version: Count
    code: Annotated[str, msgspec.Meta(max_length=32)] = ""
    """With `refused`: the RefusalCode."""
    detail: Text = ""
    lag_s: Finite | None = None
    """With `applied`: seconds since the newest sample the version learned from."""
