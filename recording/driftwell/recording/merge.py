"""Several recordings as one, by receive time; the order within each is kept.

A clock that jumps back in one file delays nothing: only the files' next messages are
compared, never messages of one file with each other.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from driftwell.recording.form import VIEW_PREFIX
from driftwell.recording.reader import Recording
from driftwell.recording.survey import Progress
from driftwell.recording.whole import write_whole


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge wrote."""

    messages: int
    documents: int
    left_out: int = 0
    """Messages that one recording cannot hold, such as those of too many topics."""


def merge_recordings(
    paths: Sequence[Path],
    out: Path,
    *,
    software: str,
    clock_s: Callable[[], float],
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Merged:
    """Write one recording of all messages and documents of several.

    Documents of one name and different texts are kept under their name and their file's.

    Args:
        paths: Recordings that were closed in good order.
        out: The new one.
        software: Name and version of this program.
        clock_s: Monotonic seconds.
        overwrite: Whether `out` may be replaced.
        progress: Told messages done and in all.

    Raises:
        RecordingError: if one cannot be read, or `out` cannot be written.
    """
    with ExitStack() as stack:
        recordings = [stack.enter_context(Recording(path)) for path in paths]
        documents = _unite(recordings)
        total = sum(sum(recording.topics.values()) for recording in recordings)
        views = any(_has_views(recording) for recording in recordings)
        writer = stack.enter_context(
            write_whole(
                out,
                paths,
                software=software,
                clock_s=clock_s,
                views=views,
                overwrite=overwrite,
            )
        )
        for name, text in documents.items():
            writer.add_document(name, text)
        left_out = 0
        streams = [recording.messages() for recording in recordings]
        for message in heapq.merge(*streams, key=lambda one: one.received_ns):
            left_out += not writer.write(message)
            if progress is not None:
                progress(writer.messages + left_out, total)
    return Merged(writer.messages, len(documents), left_out)


def _unite(recordings: Sequence[Recording]) -> dict[str, str]:
    united: dict[str, str] = {}
    for recording in recordings:
        for name, text in recording.documents().items():
            for free in _names(name, recording.path.name):
                if united.setdefault(free, text) == text:
                    break
    return united


def _names(name: str, file: str) -> Iterator[str]:
    """Under which a document may stand: its own, and ever longer ones if that is taken."""
    yield name
    yield f"{name} ({file})"
    yield from (f"{name} ({file} {number})" for number in count(2))


def _has_views(recording: Recording) -> bool:
    channels = recording.summary.channels.values()
    return any(channel.topic.startswith(VIEW_PREFIX) for channel in channels)
