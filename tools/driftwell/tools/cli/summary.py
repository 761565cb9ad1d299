"""What an edge daemon says on standard error when it ends."""

from rich.console import Console

from driftwell.edge.daemon import Summary


def print_summary(summary: Summary) -> None:
    """Print one run's books and timing, a few lines."""
    console = Console(stderr=True, highlight=False)
    end = "stream finished" if summary.finished else "stopped before the end of the stream"
    books = ", ".join(f"{fate} {count}" for fate, count in sorted(summary.books.items()))
    console.print(f"{end}; samples: {books}", soft_wrap=True)
    applied = summary.counters.get("versions_applied", 0)
    refused = summary.counters.get("versions_refused", 0)
    console.print(
        f"versions applied {applied}, refused {refused}; "
        f"{summary.bytes_up / 1e3:.1f} kB up, {summary.bytes_down / 1e3:.1f} kB down; "
        f"a batch takes {summary.forward_ms:.1f} ms forward and {summary.other_ms:.1f} ms else",
        soft_wrap=True,
    )
    if not summary.drained:
        console.print(
            "not everything reached the cloud; the rest is in the spool and goes next time"
        )
