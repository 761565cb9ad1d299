"""The playhead and the commands that move it, with a clock in the test's hand."""

import math

import pytest
from tests.tiny import Ticks

from driftwell.messages.errors import SettingsError
from driftwell.tools.replay.commands import Command, Verb, obey, read_keys, read_line
from driftwell.tools.replay.playhead import Playhead
from driftwell.tools.replay.timeline import SECOND_NS, Span

STRETCH = Span(0, 100 * SECOND_NS)


class Hands:
    """A playhead, a clock, and somebody who types."""

    def __init__(self, speed: float = 1.0, *, is_paused: bool = False) -> None:
        self.clock = Ticks(1000.0)
        self.head = Playhead(0, self.clock(), speed, is_paused=is_paused)

    def say(self, line: str) -> None:
        self.head = obey(self.head, read_line(line), now_s=self.clock(), stretch=STRETCH)

    def pass_s(self, seconds: float) -> None:
        self.clock.now_s += seconds

    @property
    def at_s(self) -> float:
        return self.head.at(self.clock()) / SECOND_NS

    def wait_s(self, due_s: float) -> float | None:
        return self.head.wait_s(int(due_s * SECOND_NS), self.clock())


def test_a_message_waits_for_its_time() -> None:
    """At tenfold speed, what was recorded after 20 s is due after 2 s, and not later than due."""
    hands = Hands(speed=10)
    assert hands.wait_s(20) == 2.0

    hands.pass_s(0.5)

    assert (hands.at_s, hands.wait_s(20), hands.wait_s(3)) == (5.0, 1.5, 0.0)


def test_a_pause_costs_nothing() -> None:
    """While paused nothing is due; afterwards it goes on where it was."""
    hands = Hands()
    hands.pass_s(3)
    hands.say("pause")
    hands.pass_s(60)
    assert (hands.at_s, hands.wait_s(1)) == (3.0, None)

    hands.say("go")
    hands.pass_s(1)

    assert (hands.at_s, hands.wait_s(6)) == (4.0, 2.0)


def test_a_step_lets_one_message_out() -> None:
    """A step moves a paused replay to the next message, however far away; no step is left."""
    hands = Hands(is_paused=True)
    hands.say("step")
    assert hands.wait_s(40) == 0.0

    hands.head = hands.head.played(40 * SECOND_NS)

    assert (hands.at_s, hands.wait_s(41)) == (40.0, None)


def test_a_step_of_a_running_replay_does_nothing() -> None:
    """And it is not kept for a later pause either."""
    hands = Hands()
    hands.say("step 5")
    hands.say("pause")

    assert hands.wait_s(1) is None


def test_without_pace_the_messages_say_where_it_is() -> None:
    """At `max` nothing waits, and the position is the last message's."""
    hands = Hands(speed=math.inf)
    hands.pass_s(5)
    assert (hands.at_s, hands.wait_s(90)) == (0.0, 0.0)

    hands.head = hands.head.played(30 * SECOND_NS)

    assert hands.at_s == 30.0


def test_a_change_of_speed_moves_nothing() -> None:
    """From `max` to a pace and back the position stays, and goes on from there."""
    hands = Hands(speed=math.inf)
    hands.head = hands.head.played(30 * SECOND_NS)
    hands.pass_s(7)

    hands.say("speed 2")
    hands.pass_s(5)

    assert hands.at_s == 40.0
    hands.say("speed max")
    assert (hands.at_s, hands.head.speed) == (40.0, math.inf)


def test_seeking() -> None:
    """Places, and ways back and forward; a way ends at the end."""
    hands = Hands()
    for line, at_s in [("seek 50", 50.0), ("]", 60.0), ("[", 50.0), ("back 60", 0.0),
                       ("forward 5", 5.0), ("forward 500", 100.0)]:  # fmt: skip
        hands.say(line)
        assert hands.at_s == at_s
    with pytest.raises(SettingsError, match=r"seek 101 is outside .* 0 to 100\.000 s"):
        hands.say("seek 101")
    assert hands.at_s == 100.0


def test_a_seek_takes_back_the_steps() -> None:
    """Steps belong to where they were asked for."""
    hands = Hands(is_paused=True)
    hands.say("step 5")
    hands.say("seek 10")

    assert (hands.head.is_paused, hands.wait_s(10)) == (True, None)


def test_faster_and_slower() -> None:
    """The speed doubles and halves, from a thousandth to `max` and back."""
    hands = Hands()
    hands.say("faster")
    hands.say("+")
    assert hands.head.speed == 4.0
    for _ in range(12):
        hands.say("+")
    assert hands.head.speed == math.inf
    hands.say("slower")
    assert hands.head.speed == 1024.0
    for _ in range(40):
        hands.say("-")
    assert hands.head.speed == 1 / 1024


def test_another_pass_keeps_the_pace() -> None:
    """At the end of a loop only the place changes."""
    hands = Hands(speed=4, is_paused=True)
    hands.say("step 2")

    head = hands.head.at_beginning(7, 2000.0)

    assert (head.time_ns, head.speed, head.is_paused, head.steps) == (7, 4, True, 2)


def test_keys() -> None:
    """Several keys may come at once; the right arrow comes as three bytes."""
    typed = b" .\x1b[C\x1bOC[]+-qx\x1b[A\n"

    verbs = [command.verb for command in read_keys(typed)]

    assert verbs == [Verb.TOGGLE, *[Verb.STEP] * 3, *[Verb.SKIP] * 2, *[Verb.SCALE] * 2, Verb.QUIT]


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (" ", Command(Verb.TOGGLE)),
        ("q", Command(Verb.QUIT)),
        (".", Command(Verb.STEP)),
        ("[", Command(Verb.SKIP, -10.0)),
        ("quit\r", Command(Verb.QUIT)),
        ("step", Command(Verb.STEP)),
        ("step 12", Command(Verb.STEP, 12)),
        ("back", Command(Verb.SKIP, -10.0)),
        ("forward 2.5", Command(Verb.SKIP, 2.5)),
        ("speed 0.5", Command(Verb.SPEED, 0.5)),
        ("seek 2026-03-01T12:00:00", Command(Verb.SEEK, place="2026-03-01T12:00:00")),
    ],
)
def test_lines(line: str, command: Command) -> None:
    """A line is a word with what belongs to it, or a key."""
    assert read_line(line) == command


@pytest.mark.parametrize(
    "line", ["stop", "step 0", "step -1", "step x", "back x", "forward -3", "seek", "speed 1 2",
             "quit now", "speed nan", "forward 1e300"],
)  # fmt: skip
def test_lines_that_are_no_commands(line: str) -> None:
    """What is not understood is an error, and never another command."""
    with pytest.raises(SettingsError):
        read_line(line)
