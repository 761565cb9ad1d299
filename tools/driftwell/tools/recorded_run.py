"""A whole run in one recording: what went over the broker, and what each device saw."""

import asyncio
import importlib.metadata
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from driftwell.broker import Connection
from driftwell.cloud.settings import CloudSettings
from driftwell.messages.errors import RecordingError
from driftwell.recording.background import BackgroundWriter
from driftwell.recording.documents import (
    cloud_document,
    foundation_document,
    settings_document,
)
from driftwell.recording.merge import merge_recordings
from driftwell.recording.writer import RecordingWriter
from driftwell.tools.recorder import run_recorder

WIRE: Final = "wire.mcap"
"""What went over the broker."""
SOFTWARE: Final = f"driftwell {importlib.metadata.version('driftwell')}"


def run_documents(settings: CloudSettings, *, foundation: str) -> Mapping[str, str]:
    """What a replay must know of the cloud, without what may hold a password.

    Args:
        settings: The cloud's.
        foundation: Digest of the bundle that teaches.
    """
    return {
        cloud_document(settings.group): settings_document(settings),
        foundation_document(settings.group): foundation,
    }


@asynccontextmanager
async def recorded_wire(
    path: Path, connection: Connection, documents: Mapping[str, str]
) -> AsyncIterator[None]:
    """Record what goes over the broker while the block lasts.

    Args:
        path: The file, without the devices' own streams.
        connection: Subscribed to everything; it is run here, and stands when the block begins.
        documents: Texts to keep beside the messages, by name.

    Raises:
        RecordingError: at the end, if the disk did not take it.
    """
    writer = RecordingWriter(path, software=SOFTWARE, clock_s=time.monotonic)
    for name, text in documents.items():
        writer.add_document(name, text)
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        recording = group.create_task(
            run_recorder(
                connection,
                BackgroundWriter(writer),
                now_ns=time.time_ns,
                stopping=stopping,
                outlives_disk=True,
            )
        )
        await connection.next_epoch(0)
        try:
            yield
        finally:
            stopping.set()
    if left_out := recording.result().left_out:
        raise RecordingError(f"{left_out} messages are not in {path}: the disk was too slow")


def join_run(folder: Path, streams: str, out: Path) -> None:
    """Put the recording of the broker and those of the devices together.

    Args:
        folder: Where they are.
        streams: Pattern of the devices' files; one that became large goes on in others.
        out: The whole run.

    Raises:
        RecordingError: if one is damaged, or `out` cannot be written.
    """
    parts = [folder / WIRE, *sorted(folder.glob(streams))]
    merge_recordings(parts, out, software=SOFTWARE, clock_s=time.monotonic)
