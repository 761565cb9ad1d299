"""Pure. The acknowledgement: what of a device's session the cloud has durably stored.

Not "received": the edge deletes from its spool on this word and on no other.
"""

from typing import Annotated

import msgspec

from driftwell.messages.envelope import Count, Domain, Envelope, Session

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
    drifts: Count | msgspec.UnsetType = msgspec.UNSET
    """With `domain`: of the samples it is about, as the device counted them."""
    domain: Domain | msgspec.UnsetType = msgspec.UNSET
    """Where the cloud put the device's newest samples; absent where it keeps no domains apart."""
    refused: Annotated[tuple[Refused, ...], msgspec.Meta(max_length=MAX_REFUSED)] = ()
