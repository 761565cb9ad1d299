"""What is wrong with a recording, and a whole one made of what is left of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from driftwell.recording.audit import Audit
from driftwell.recording.form import VIEW_PREFIX, RecordedMessage
from driftwell.recording.reader import Recording
from driftwell.recording.survey import Chunk, Losses, Progress, Survey
from driftwell.recording.whole import write_whole
from driftwell.recording.writer import RecordingWriter


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` found. Sizes in bytes."""

    size: int
    is_closed: bool
    """Whether the file was closed in good order, and its index is whole."""
    chunks: int
    messages: int
    views: int
    documents: int
    losses: Losses
    index_faults: int
    """Places at which the index says other than the chunks."""
    received_jumps: int
    """How often the recorder's clock went back."""
    sent_jumps: int
    """How often a sender's clock went back within one topic."""
    undecodable: int
    """Messages of ours that do not decode; they are kept all the same."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is lost and every reader can use the file."""
        return self.is_closed and not (
            self.losses.bytes or self.losses.unnamed or self.index_faults
        )


@dataclass(frozen=True, slots=True)
class Salvage:
    """What `recover` saved, and what was lost."""

    chunks: int
    messages: int
    documents: int
    losses: Losses
    left_out: int = 0
    """Messages that are whole, but that no recording of ours can hold."""


def verify(path: Path, *, progress: Progress | None = None) -> Verdict:
    """Read a whole recording and say what is wrong with it.

    Raises:
        RecordingError: if it cannot be read, is no recording, or of another schema.
    """
    survey = Survey(path, progress=progress)
    with survey.file as file:
        is_closed = file.has_whole_index()
        audit = Audit(survey.topics)
        for part in survey.parts():
            audit.take(part, file)
        audit.end_chunk()
        if is_closed:
            with Recording(path) as recording:
                audit.compare(recording.summary)
        return Verdict(
            size=file.size,
            is_closed=is_closed,
            chunks=len(audit.chunks),
            messages=audit.messages,
            views=audit.views,
            documents=len(survey.documents),
            losses=survey.losses,
            index_faults=audit.faults,
            received_jumps=audit.received_jumps,
            sent_jumps=audit.sent_jumps,
            undecodable=audit.undecodable,
        )


def recover(
    path: Path,
    out: Path,
    *,
    software: str,
    clock_s: Callable[[], float],
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Salvage:
    """Write a closed recording of every message in an undamaged chunk, and every document.

    Args:
        path: The damaged recording; it is only read.
        out: The new one.
        software: Name and version of this program.
        clock_s: Monotonic seconds.
        overwrite: Whether `out` may be replaced.
        progress: Told how far it is.

    Raises:
        RecordingError: if `path` is no recording, or `out` cannot be written.
    """
    survey = Survey(path, progress=progress)
    with survey.file, write_whole(
        out, [path], software=software, clock_s=clock_s, views=survey.has_views,
        overwrite=overwrite,
    ) as writer:  # fmt: skip
        chunks = left_out = 0
        for part in survey.parts():
            if isinstance(part, Chunk):
                chunks += 1
                left_out += _copy(part, survey.topics, writer)
        for name, text in survey.documents.items():
            writer.add_document(name, text)
    return Salvage(chunks, writer.messages, len(survey.documents), survey.losses, left_out)


def _copy(chunk: Chunk, topics: dict[int, str], writer: RecordingWriter) -> int:
    """Write what is in a chunk; how many messages were not taken."""
    left_out = 0
    for stored in chunk.messages:
        topic = topics[stored.channel]
        if not topic.startswith(VIEW_PREFIX):
            one = RecordedMessage(topic, stored.payload, stored.received_ns, stored.sent_ns)
            left_out += not writer.write(one)
    return left_out
