"""Pure. Whether the broker is still there, judged from what was heard and said, and when.

A TCP connection whose far end vanished looks like a quiet one for many minutes. So a quiet
connection is asked a question, and one that does not answer is given up.
"""

import enum
from typing import Final

GIVE_UP: Final = 2.5  # keepalives of silence
LAST_QUESTION: Final = 2.0  # keepalives of silence


class Verdict(enum.Enum):
    """What to do about the connection now."""

    FINE = "fine"
    ECHO = "echo"
    """Send oneself a message: the answer proves the whole way, subscription included."""
    PING = "ping"
    """The protocol's own question, for a broker whose access list forbids the echo."""
    GONE = "gone"


def judge(*, silent_s: float, quiet_s: float, asked_s: float, keepalive_s: float) -> Verdict:
    """What to do about the connection.

    Args:
        silent_s: Seconds since anything was heard.
        quiet_s: Seconds since anything was said; the broker, too, wants to hear from us.
        asked_s: Seconds since the last question, or since the connection was made.
        keepalive_s: The agreed longest quiet time, in seconds.
    """
    if silent_s > GIVE_UP * keepalive_s:
        return Verdict.GONE
    if silent_s >= LAST_QUESTION * keepalive_s and asked_s >= (LAST_QUESTION - 1) * keepalive_s:
        return Verdict.PING
    if max(silent_s, quiet_s) >= keepalive_s <= asked_s:
        return Verdict.ECHO
    return Verdict.FINE
