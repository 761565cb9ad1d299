"""The ledger against a model of it: any order, repeats, refusals, steps and restarts."""

import shutil
import tempfile
from pathlib import Path

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests import tiny

from driftwell.cloud.ledger import Ledger
from driftwell.cloud.tables import StoredBatch

BATCHES = {n: tiny.make_batch(tiny.make_images(n), model="a" * 64) for n in (1, 2, 3)}
KEY = ("cam-1", tiny.SESSION)


class LedgerMachine(RuleBasedStateMachine):
    """Stores, refuses and uses; keeps its own books beside."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.ledger = Ledger(self.folder)
        self.stored: dict[int, StoredBatch] = {}
        self.used: dict[int, int] = {}
        self.refused: dict[int, int] = {}
        self.mark = 0
        self.trained = 0

    def move(self, oldest_seq: int) -> None:
        self.mark = max(self.mark, oldest_seq - 1)
        while self.mark + 1 in self.stored or self.mark + 1 in self.refused:
            self.mark += 1

    @rule(seq=st.integers(1, 12), samples=st.integers(1, 3), oldest=st.integers(1, 6))
    def store(self, seq: int, samples: int, oldest: int) -> None:
        batch = msgspec.structs.replace(BATCHES[samples], seq=seq, oldest_seq=min(oldest, seq))
        is_new = seq > self.mark and seq not in self.stored and seq not in self.refused

        row = self.ledger.store(batch, "cam-1", b"payload")

        assert (row is not None) == is_new
        if row is not None:
            self.stored[seq] = row
            self.used[seq] = 0
        self.move(batch.oldest_seq)

    @rule(seq=st.integers(1, 12), samples=st.integers(0, 5))
    def refuse(self, seq: int, samples: int) -> None:
        if seq > self.mark and seq not in self.stored and seq not in self.refused:
            self.refused[seq] = samples
        self.ledger.refuse(*KEY, seq, "malformed", samples=samples)
        self.move(0)

    @precondition(lambda self: self.stored)
    @rule(count=st.integers(1, 4))
    def train(self, count: int) -> None:
        taken = []
        for seq, row in sorted(self.stored.items(), key=lambda item: item[1].id):
            part = min(count, row.samples - self.used[seq])
            if part:
                taken.append((row, part))
                self.used[seq] += part
                count -= part
        self.ledger.use("cam-1", taken, fate="trained")
        self.trained += sum(part for _, part in taken)

    @rule()
    def restart(self) -> None:
        self.ledger.close()
        self.ledger = Ledger(self.folder)

    @invariant()
    def the_mark_is_the_end_of_what_is_whole(self) -> None:
        assert self.ledger.stored_seq(*KEY) == self.mark

    @invariant()
    def the_books_are_those_of_the_model(self) -> None:
        books = self.ledger.books().get("cam-1", {"pending": 0})
        held = sum(row.samples for row in self.stored.values())
        assert books.get("stored", 0) == held
        assert books.get("trained", 0) == self.trained == sum(self.used.values())
        assert books["pending"] == held - self.trained
        assert books.get("rejected:malformed", 0) == sum(self.refused.values())
        in_rows = {row.seq: row.used for row in self.ledger.batches("cam-1")}
        assert in_rows == self.used

    def teardown(self) -> None:
        self.ledger.close()
        shutil.rmtree(self.folder)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
