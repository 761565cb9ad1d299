"""Pure. What the broker's reason codes mean: sent, try again, give up, or call the operator.

The numbers are those of MQTT 5, section 2.4; a 3.1.1 broker's few are mapped to them by the
client. A code that is not in a table is treated like the general failure, 0x80.
"""

from types import MappingProxyType
from typing import Final

from driftwell.broker.connection import Outcome, Publication

FAILURE: Final = 0x80  # this and above are failures
VERSION_UNKNOWN: Final = 0x84

ACKED: Final = Publication(Outcome.ACKED)
NOT_CONNECTED: Final = Publication(Outcome.SPOOLED, "not-connected")
DISCONNECTED: Final = Publication(Outcome.SPOOLED, "disconnected")
TIMED_OUT: Final = Publication(Outcome.SPOOLED, "timeout")
TOO_LARGE: Final = Publication(Outcome.REFUSED, "too-large")
DENIED: Final = Publication(Outcome.REFUSED, "denied")

_PUBLISH: Final = MappingProxyType(
    {
        0x87: DENIED,
        0x90: Publication(Outcome.REFUSED, "bad-topic"),
        # These two are about the moment, not about the message.
        0x91: Publication(Outcome.SPOOLED, "busy"),
        0x97: Publication(Outcome.SPOOLED, "quota"),
        0x95: TOO_LARGE,
        0x99: Publication(Outcome.REFUSED, "bad-payload"),
    }
)
_FAILED: Final = Publication(Outcome.REFUSED, "failed")

_CONNECT: Final = MappingProxyType(
    {
        0x85: "it does not accept this client identifier; use another device or program name",
        0x86: "wrong user name or password; correct them in the broker URL",
        0x87: (
            "not authorised; check the user name and password in the broker URL, "
            "and that the broker knows them"
        ),
        0x8A: "this client is banned; ask whoever runs the broker",
        0x8C: "it wants another way to log in; it must accept a user name and password",
    }
)


def publication(code: int) -> Publication:
    """What became of a publish that the broker answered with `code`."""
    return ACKED if code < FAILURE else _PUBLISH.get(code, _FAILED)


def connect_advice(code: int) -> str | None:
    """What the operator must do about a refused connection; None if time may mend it."""
    return _CONNECT.get(code)
