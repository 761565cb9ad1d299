"""`driftwell demo`."""


def run_demo() -> None:
    """Show it."""
