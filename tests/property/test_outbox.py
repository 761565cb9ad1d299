"""The outbox as a machine: whatever happens in whatever order, its promises hold."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from driftwell.edge.outbox import Entry, Outbox

SESSION = "a" * 16
OLD = "b" * 16
WINDOW = 3
LIMIT = 1000


class OutboxMachine(RuleBasedStateMachine):
    """Puts, sends, loses, drops and acknowledges; remembers what went over the wire."""

    def __init__(self) -> None:
        super().__init__()
        old = [Entry(1, 1, 50, OLD, 4), Entry(2, 1, 50, OLD, 5)]
        self.outbox = Outbox(old, session=SESSION, window=WINDOW, resend_s=10, limit_bytes=LIMIT)
        self.held = {entry.id: entry.size_bytes for entry in old}
        self.number_of = {1: (OLD, 4), 2: (OLD, 5)}
        self.seqs: list[int] = []
        self.now_s = 0.0
        self.next_id = 3

    @rule(size=st.integers(1, 400))
    def put(self, size: int) -> None:
        before = dict(self.held)
        fits, removed = self.outbox.make_room(size)
        for entry in removed:
            assert entry.id not in self.number_of, "a sent entry was dropped"
            del self.held[entry.id]
        if not fits:
            assert self.held == before
            unsent = sum(s for i, s in before.items() if i not in self.number_of)
            assert sum(before.values()) - unsent + size > LIMIT
            return
        self.outbox.put(Entry(self.next_id, 1, size))
        self.held[self.next_id] = size
        self.next_id += 1

    @rule()
    def dispatch(self) -> None:
        entry = self.outbox.dispatch(self.now_s)
        if entry is None:
            return
        assert entry.id in sorted(self.held)[:WINDOW], "beyond the window"
        number = (entry.session, entry.seq)
        if entry.id in self.number_of:
            assert number == self.number_of[entry.id], "a number changed"
        else:
            assert entry.session == SESSION
            self.seqs.append(entry.seq)
            self.number_of[entry.id] = number

    @rule(seconds=st.floats(0, 50))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def lose_connection(self) -> None:
        self.outbox.connection_lost()

    @rule(index=st.integers(0, 9))
    def not_sent(self, index: int) -> None:
        if self.held:
            self.outbox.not_sent(sorted(self.held)[index % len(self.held)])

    @rule(session=st.sampled_from([SESSION, OLD]), seq=st.integers(0, 30))
    def acknowledge(self, session: str, seq: int) -> None:
        gone = {entry.id for entry in self.outbox.acknowledged(session, seq)}
        expected = {
            number
            for number in self.held
            if number in self.number_of
            and self.number_of[number][0] == session
            and self.number_of[number][1] <= seq
        }
        assert gone == expected
        for number in gone:
            del self.held[number]

    @invariant()
    def numbers_have_no_gaps(self) -> None:
        assert self.seqs == list(range(1, len(self.seqs) + 1))
        assert self.outbox.last_seq == len(self.seqs)

    @invariant()
    def sizes_add_up(self) -> None:
        assert len(self.outbox) == len(self.held)
        assert self.outbox.size_bytes == sum(self.held.values()) <= LIMIT

    @invariant()
    def oldest_is_the_lowest_held(self) -> None:
        mine = [
            self.number_of[n][1]
            for n in self.held
            if n in self.number_of and self.number_of[n][0] == SESSION
        ]
        assert self.outbox.oldest_seq(SESSION) == min(mine, default=len(self.seqs) + 1)

    def teardown(self) -> None:
        """With a network that works, everything is acknowledged in the end."""
        for _ in range(2 * len(self.held) + 1):
            self.outbox.connection_lost()
            while (entry := self.outbox.dispatch(self.now_s)) is not None:
                self.outbox.acknowledged(entry.session, entry.seq)
        assert len(self.outbox) == 0
        assert self.outbox.size_bytes == 0


TestOutbox = OutboxMachine.TestCase
TestOutbox.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
