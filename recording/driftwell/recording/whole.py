"""A new recording that has its name only once it is finished: what `merge` and `recover` write.

Until then it stands beside that name, with `.part` behind it. When it fails or is stopped,
nothing is left of it, and a file that was to be replaced is still there.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from driftwell.messages.errors import RecordingError
from driftwell.recording.appending import sync_folder
from driftwell.recording.writer import RecordingWriter


@contextmanager
def write_whole(
    out: Path,
    sources: Iterable[Path],
    *,
    software: str,
    clock_s: Callable[[], float],
    views: bool,
    overwrite: bool,
) -> Iterator[RecordingWriter]:
    """Give a writer; when the block ends without an error, `out` is what was written.

    Args:
        out: The new recording.
        sources: What is read meanwhile; none of them is written over.
        software: Name and version of this program.
        clock_s: Monotonic seconds.
        views: Whether there are views.
        overwrite: Whether `out` may be replaced.

    Raises:
        RecordingError: if `out` is there or one of the sources, or cannot be written.
    """
    part = out.with_name(f"{out.name}.part")
    for path in sources:
        if any(_is_same(path, one) for one in (out, part)):
            raise RecordingError(
                f"{out} cannot be written while {path} itself is read; choose another name"
            )
    _require_free(out, overwrite=overwrite)
    writer = RecordingWriter(part, software=software, clock_s=clock_s, views=views, overwrite=True)
    try:
        with writer:
            yield writer
        _require_free(out, overwrite=overwrite)
        _rename(part, out)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _require_free(out: Path, *, overwrite: bool) -> None:
    if out.exists() and not overwrite:
        raise RecordingError(
            f"{out} is there already; choose another name, or --force to replace it"
        )


def _rename(part: Path, out: Path) -> None:
    try:
        part.replace(out)
        sync_folder(out.parent)
    except OSError as error:
        raise RecordingError(f"{out} cannot be written: {error.strerror}") from error


def _is_same(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and path.samefile(other)
