"""`driftwell bench`."""

import typer

app = typer.Typer(help="Measure.", no_args_is_help=True)


@app.command("stream")
def stream() -> None:
    """Measure."""
