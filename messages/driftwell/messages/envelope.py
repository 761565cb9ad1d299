"""Pure. The fields every message begins with.

A message is one MessagePack map: these fields, a `type` tag, and the type's own. Unknown
fields are ignored, so a minor version may add some; another `schema` is refused whole.
"""

import sys
from typing import Annotated, Final

import msgspec

from driftwell.messages.names import COHORT_PATTERN, MAX_DOMAIN, NAME_PATTERN

SCHEMA: Final = 1
"""The schema major this program writes and reads."""

MAX_COUNT: Final = 2**62
"""The largest integer in a message: SQLite, which ends at 2**63 - 1, still holds one more."""

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
CohortName = Annotated[str, msgspec.Meta(pattern=COHORT_PATTERN)]
Domain = Annotated[int, msgspec.Meta(ge=0, le=MAX_DOMAIN)]
Session = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
Nanoseconds = Count
Finite = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=sys.float_info.max)]
Text = Annotated[str, msgspec.Meta(max_length=500)]


class Envelope(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every message says about itself."""

    schema: int = SCHEMA
    device: Annotated[str, msgspec.Meta(pattern=r"^_\Z|" + NAME_PATTERN)]
    """The device level of the topic the message travels on."""
    session: Session
    """Drawn anew each time the sending program starts."""
    seq: Count
    """Counts the sender's messages of this type in this session, from 1."""
    clock_ns: Nanoseconds
    """The sender's clock, nanoseconds since the Unix epoch; it may be wrong."""
    model: Digest
    """The digest of the edge model bundle the message is about."""
