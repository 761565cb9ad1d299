"""Plays a recording to a broker: each message when it is due, and what a person says between.

Commands are obeyed in turn: one that follows `step 3` waits until three messages are out.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from driftwell.messages.errors import SettingsError, WireError
from driftwell.recording.form import RecordedMessage
from driftwell.tools.replay.commands import Command, Verb, obey
from driftwell.tools.replay.outcome import BrokerReplay
from driftwell.tools.replay.pipeline import Pipeline
from driftwell.tools.replay.plan import Plan
from driftwell.tools.replay.playhead import Playhead
from driftwell.tools.replay.rewriting import Outgoing, rewrite
from driftwell.tools.replay.tape import Tape
from driftwell.tools.replay.timeline import Track

MAX_COMMANDS: Final = 10_000
QUIT_PATIENCE_S: Final = 5.0
"""How long `quit` waits for the broker's last answers."""


@dataclass(frozen=True, slots=True)
class BrokerWishes:
    """How a recording is played to a broker."""

    run: str
    """Drawn for each run: makes its sessions new."""
    passes: int = 1
    """Over the recording; 0: for ever."""
    is_paused: bool = False
    """At the beginning."""
    takes_lines: bool = False
    """Whether commands come as lines of standard input."""
    keeps_sessions: bool = False


class Player:
    """One replay in progress."""

    def __init__(
        self,
        tape: Tape,
        plan: Plan,
        wishes: BrokerWishes,
        pipeline: Pipeline,
        changed: asyncio.Event,
        outcome: BrokerReplay,
        *,
        monotonic_s: Callable[[], float],
        answer: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Begin at the beginning.

        Args:
            tape: The recording.
            plan: What of it is played.
            wishes: How.
            pipeline: Where it goes.
            changed: Set by whoever wants the player to look again.
            outcome: Counts.
            monotonic_s: What the pace goes by.
            answer: Told, after each command, where the replay is, or what was wrong.
        """
        self._tape = tape
        self._plan = plan
        self._wishes = wishes
        self._pipeline = pipeline
        self._changed = changed
        self._outcome = outcome
        self._monotonic_s = monotonic_s
        self._answer = answer
        self._commands: deque[Command] = deque()
        self._owes_answer = False
        self._is_deaf = False
        self._outgoing: deque[Outgoing] = deque()
        self._sent = 0
        self._sessions = 0
        """New ones for each pass, and each way back."""
        begin_ns = plan.stretch.begin_ns
        self.head = Playhead(begin_ns, monotonic_s(), plan.speed, is_paused=wishes.is_paused)
        self._go_to(begin_ns)

    def tell(self, command: Command) -> None:
        """Queue a command; one too many is left out, and the answer says so."""
        if len(self._commands) >= MAX_COMMANDS:
            self._answer(f"more than {MAX_COMMANDS} commands wait: {command.verb.value} left out")
            return
        self._commands.append(command)
        self._changed.set()

    def tell_no_more(self) -> None:
        """Nobody commands any longer: a replay that is paused, or will be, ends."""
        self._is_deaf = True
        self._changed.set()

    def where(self) -> str:
        """Position, state, speed and messages sent, in a line."""
        whole, head = self._plan.whole, self.head
        position_s = whole.seconds(self._plan.stretch.clamp(head.at(self._monotonic_s())))
        state = "paused" if head.is_paused else "playing"
        speed = "max" if math.isinf(head.speed) else f"{head.speed:g}"
        return (
            f"{position_s:.3f} of {whole.length_s:.3f} s, {state}, speed {speed}, "
            f"{self._sent} messages"
        )

    async def play(self) -> None:
        """Play until the end, `quit`, or the end of the commands while paused.

        Raises:
            RecordingError: if the recording is damaged.
        """
        patience_s = None
        while True:
            self._changed.clear()
            if self._next is None and self._begin_pass():
                continue
            if self._owes_answer and not self._is_stepping:
                self._owes_answer = False
                self._answer(self.where())
            elif self._commands and not self._is_stepping:
                command = self._commands.popleft()
                if command.verb is Verb.QUIT:
                    patience_s = QUIT_PATIENCE_S
                    break
                self._obey(command)
            elif self._outgoing and self._pipeline.has_room:
                self._pipeline.send(self._outgoing.popleft())
                self._sent += 1
            elif (wait_s := self._wait_s()) == 0:
                await self._take()
            elif self._is_over:
                break
            else:
                await self._look_again_in(wait_s)
        await self._pipeline.drain(patience_s)

    @property
    def _is_stepping(self) -> bool:
        is_next = self._next is not None and self.head.steps > 0
        return self.head.is_paused and (is_next or bool(self._outgoing))

    @property
    def _is_over(self) -> bool:
        if self._outgoing:
            return False
        if self.head.is_paused:
            return self._is_deaf
        return self._next is None

    def _wait_s(self) -> float | None:
        """Until the next message is due; None: until something changes."""
        if self._outgoing or self._next is None:
            return None
        return self.head.wait_s(self._next[0], self._monotonic_s())

    async def _take(self) -> None:
        """Make the next recorded message ready to go out."""
        if self._next is None:
            return
        due_ns, message = self._next
        salt = None if self._wishes.keeps_sessions else f"{self._wishes.run}/{self._sessions}"
        try:
            self._outgoing.extend(rewrite(message, self._plan.roles, salt=salt))
        except WireError as error:
            self._outcome.refused[f"left out: {error.code}"] += 1
        self.head = self.head.played(due_ns)
        self._advance()
        await asyncio.sleep(0)  # at full speed nobody else would get a word in

    def _obey(self, command: Command) -> None:
        now_s = self._monotonic_s()
        before_ns = self.head.at(now_s)
        try:
            self.head = obey(self.head, command, now_s=now_s, stretch=self._plan.stretch)
        except SettingsError as error:
            self._answer(str(error))
            return
        if command.moves:
            self._sessions += self.head.time_ns < before_ns
            self._go_to(self.head.time_ns)
        self._owes_answer = True

    def _begin_pass(self) -> bool:
        """Begin anew, if that is wished."""
        if self._outgoing or self._wishes.passes == self._outcome.passes:
            return False
        begin_ns = self._plan.stretch.begin_ns
        self.head = self.head.at_beginning(begin_ns, self._monotonic_s())
        self._outcome.passes += 1
        self._sessions += 1
        self._go_to(begin_ns)
        return self._next is not None

    def _go_to(self, time_ns: int) -> None:
        self._outgoing.clear()
        self._track: Track = self._tape.track(self._plan, from_ns=time_ns)
        self._coming: Iterator[tuple[int, RecordedMessage]] = iter(self._track)
        self._advance()

    def _advance(self) -> None:
        self._next = next(self._coming, None)
        self._outcome.jumps = max(self._outcome.jumps, self._track.jumps)

    async def _look_again_in(self, wait_s: float | None) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._changed.wait()
        except TimeoutError:
            pass
