"""What a replay says: the bar of a long one, and the last lines."""

import io
from collections import Counter

from rich.console import Console
from tests.tiny import Ticks

from driftwell.tools.replay.bar import progress_bar
from driftwell.tools.replay.outcome import BrokerReplay, CloudReplay, Version
from driftwell.tools.replay.timeline import SECOND_NS, Span

STRETCH = Span(0, 100 * SECOND_NS)


def shown(*, is_terminal: bool, taking_s: float) -> str:
    clock = Ticks()
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=is_terminal, width=80)
    with progress_bar(console, STRETCH, monotonic_s=clock) as progress:
        for seconds in (10, 50):
            clock.now_s += taking_s / 2
            progress(seconds * SECOND_NS)
    return screen.getvalue()


def test_a_long_replay_has_a_bar() -> None:
    """After two seconds a terminal shows how far of the recorded time it is; nothing else does."""
    assert "50%" in shown(is_terminal=True, taking_s=4)
    assert shown(is_terminal=True, taking_s=1) == ""
    assert shown(is_terminal=False, taking_s=4) == ""


def test_the_end_of_a_replay_into_a_cloud() -> None:
    """Versions, how fast it was, what no replay can be faster than, and what went wrong."""
    outcome = CloudReplay(
        versions=[Version("a", 1, "x"), Version("a", 2, "y"), Version("b", 1, "z")],
        messages=7, recorded_s=60.0, taken_s=3.0, training_s=2.4, jumps=2,
        refused=Counter({"malformed": 2, "duplicates": 1}),
    )  # fmt: skip

    made, timing, refused, clock = outcome.lines()
    assert made == "7 messages made 3 versions of 2 cohorts"
    assert timing.startswith("60.0 s of recording took 3.00 s, 20 times as fast; 2.40 s of that")
    assert timing.endswith("(80 %) was training, the floor of any replay")
    assert refused == "refused: duplicates 1, malformed 2"
    assert clock.startswith(
        "the recorder's clock went back 2 times; the order of the file was kept"
    )


def test_the_end_of_a_replay_to_a_broker() -> None:
    """Messages, megabytes, rate; the rest only where there is something to say."""
    quiet = BrokerReplay(messages=100, payload_bytes=2_500_000, taken_s=2.0)
    eventful = BrokerReplay(
        messages=1, taken_s=1.0, passes=2, resent=3, jumps=1,
        refused=Counter({"broker: not authorized": 4}),
    )  # fmt: skip

    assert quiet.lines() == ["100 messages, 2.50 MB in 2.00 s, 50 messages a second; 0 refused"]
    assert eventful.lines()[0].endswith("; 4 refused")
    assert [line.split(";")[0] for line in eventful.lines()[1:]] == [
        "passes over the recording: 2",
        "sent again after a lost connection: 3",
        "refused: broker: not authorized 4",
        "the recorder's clock went back once",
    ]
