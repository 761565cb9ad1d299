"""Pure. The acknowledgement: what of a device's session the cloud has durably stored.

Not "received": the edge deletes from its spool on this word and on no other.
"""

from typing import Annotated

import msgspec

from driftwell.messages.envelope import Count, Envelope, Session

MAX_REFUSED = 256


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """One sample batch that will never be used."""

    seq: Count
    code: Annotated[str, msgspec.Meta(max_length=32)]


class Ack(Envelope, frozen=True, kw_only=True, tag="ack"):
    """Answers sample batches of one session of one device."""

    of_session: Session
    stored_seq: Count
    """Every seq up to this one is stored, refused, or was given up by the edge."""
    settled_seq: Count
    """Up to this seq the learner has done all it will do until more samples come."""
    version: Count
    """The newest version for the device at the time of `settled_seq`."""
    refused: Annotated[tuple[Refused, ...], msgspec.Meta(max_length=MAX_REFUSED)] = ()
