"""Pure. What a person says to a running replay, as keys or as lines, and what it does."""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Final

from driftwell.messages.errors import SettingsError
from driftwell.tools.replay.playhead import Playhead
from driftwell.tools.replay.timeline import FASTEST, SECOND_NS, SLOWEST, Span, parse_speed

SKIP_S: Final = 10.0
MAX_STEPS: Final = 1_000_000
"""Doubled beyond this, the speed is `max`; halved from `max`, it is this."""


class Verb(Enum):
    """What is to be done."""

    TOGGLE = "pause or go on"
    PAUSE = "pause"
    GO = "go"
    STEP = "step"
    SKIP = "skip"
    SEEK = "seek"
    SPEED = "speed"
    SCALE = "faster or slower"
    QUIT = "quit"


@dataclass(frozen=True, slots=True)
class Command:
    """One command."""

    verb: Verb
    number: float = 1.0
    """Messages of a step, seconds of a skip, the speed, or by how much it is multiplied."""
    place: str = ""
    """Of a seek: as `--start` takes it."""

    @property
    def moves(self) -> bool:
        """Whether the replay goes on from another place."""
        return self.verb in {Verb.SKIP, Verb.SEEK}


KEYS: Final = {
    b"\x1b[C": Command(Verb.STEP),  # right arrow, in either mode of a terminal
    b"\x1bOC": Command(Verb.STEP),
    b" ": Command(Verb.TOGGLE),
    b".": Command(Verb.STEP),
    b"[": Command(Verb.SKIP, -SKIP_S),
    b"]": Command(Verb.SKIP, SKIP_S),
    b"+": Command(Verb.SCALE, 2.0),
    b"-": Command(Verb.SCALE, 0.5),
    b"q": Command(Verb.QUIT),
}
WORDS: Final = {
    "pause": Command(Verb.PAUSE),
    "go": Command(Verb.GO),
    "step": Command(Verb.STEP),
    "back": Command(Verb.SKIP, -SKIP_S),
    "forward": Command(Verb.SKIP, SKIP_S),
    "faster": Command(Verb.SCALE, 2.0),
    "slower": Command(Verb.SCALE, 0.5),
    "quit": Command(Verb.QUIT),
}
HELP: Final = (
    "pause, go, step [COUNT], back [SECONDS], forward [SECONDS], seek SECONDS or TIME, "
    "speed NUMBER or max, faster, slower, quit"
)


def read_keys(typed: bytes) -> list[Command]:
    """The commands in what a terminal sent; what is none is passed over."""
    commands = []
    while typed:
        key = next((key for key in KEYS if typed.startswith(key)), None)
        if key is not None:
            commands.append(KEYS[key])
        elif typed.startswith((b"\x1b[", b"\x1bO")):
            typed = typed[2:]  # another key of that sort: its letter follows and is no command
        typed = typed[len(key) if key else 1 :]
    return commands


def read_line(line: str) -> Command:
    """The command in a line: a word, or a key.

    Raises:
        SettingsError: if it is none; the text says which there are.
    """
    key = KEYS.get(line.encode()) or KEYS.get(line.strip().encode())
    if key is not None:
        return key
    words = line.split()
    if len(words) == 1 and words[0] in WORDS:
        return WORDS[words[0]]
    if len(words) == 2:  # noqa: PLR2004
        return _read_two(*words)
    raise _unknown(line)


def obey(head: Playhead, command: Command, *, now_s: float, stretch: Span) -> Playhead:
    """The playhead after a command; `quit` is not its business.

    Raises:
        SettingsError: if a seek leads out of what is played.
    """
    after = head
    match command.verb:
        case Verb.TOGGLE | Verb.PAUSE | Verb.GO:
            pauses = command.verb is Verb.PAUSE or (
                command.verb is Verb.TOGGLE and not head.is_paused
            )
            after = head.pause(now_s) if pauses else head.go(now_s)
        case Verb.STEP:
            after = head.step(int(command.number))
        case Verb.SKIP | Verb.SEEK:
            after = head.seek(_place_ns(head, command, now_s, stretch), now_s)
        case Verb.SPEED | Verb.SCALE:
            after = head.at_speed(_speed(head.speed, command), now_s)
        case Verb.QUIT:
            pass
    return after


def _read_two(word: str, rest: str) -> Command:
    match word:
        case "step" if rest.isdecimal() and 0 < int(rest) <= MAX_STEPS:
            return Command(Verb.STEP, int(rest))
        case "back":
            return Command(Verb.SKIP, -_seconds(rest))
        case "forward":
            return Command(Verb.SKIP, _seconds(rest))
        case "seek":
            return Command(Verb.SEEK, place=rest)
        case "speed":
            return Command(Verb.SPEED, parse_speed(rest))
        case _:
            raise _unknown(f"{word} {rest}")


def _unknown(line: str) -> SettingsError:
    return SettingsError(f"{line.strip()!r} is not a command; there are: {HELP}")


def _place_ns(head: Playhead, command: Command, now_s: float, stretch: Span) -> int:
    if command.verb is Verb.SEEK:
        return stretch.moment(command.place, what="seek")
    here_ns = stretch.clamp(head.at(now_s))
    return stretch.clamp(here_ns + int(command.number * SECOND_NS))


def _speed(before: float, command: Command) -> float:
    if command.verb is Verb.SPEED:
        return command.number
    scaled = min(before, 2 * FASTEST) * command.number
    return math.inf if scaled > FASTEST else max(SLOWEST, scaled)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds * SECOND_NS < math.inf:
        raise SettingsError(f"{text!r} is not a number of seconds")
    return seconds
