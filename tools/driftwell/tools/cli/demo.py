"""`driftwell demo`: see it work, with nothing but this package installed."""

import importlib.util
import os
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from driftwell.messages.errors import SettingsError
from driftwell.tools.cli.logs import configure_logs

NEEDED: Final = ("torch", "sklearn", "matplotlib")


def run_demo(
    *,
    seed: Annotated[int, typer.Option(min=0, help="Split, training, weather and replay.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for report and logs.")] = Path("driftwell-demo"),
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder for the trained networks \\[~/.cache/driftwell/demo]."),
    ] = None,
    samples: Annotated[int, typer.Option(min=40, help="Images a camera.")] = 2400,
    rate: Annotated[float, typer.Option(min=1, help="Images a second and camera.")] = 60,
    lockstep: Annotated[
        bool,
        typer.Option(
            "--lockstep",
            help="Wait for the cloud after each batch: the same seed, the same versions.",
        ),
    ] = False,
    record: Annotated[
        Path | None, typer.Option(help="Record the whole run to this .mcap file.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep streams, answers and state folders in --out.")
    ] = False,
) -> None:
    """Three cameras run into fog, rain and dirt, and recover: about a minute.

    A broker in this process, a cloud and three devices as processes, real MQTT between them.
    The first run also trains two small networks (15 s). Writes report.html and accuracy.png;
    exit code 0 if every camera gained 10 points of accuracy, 1 if not.

    Example: driftwell demo --seed 1 --out /tmp/demo --keep
    """
    require_extras()
    from driftwell.tools.demo.program import Options, run

    # The broker in this process would write into the live view; a demo's programs have log files.
    configure_logs("error", as_json=False)
    options = Options(
        seed=seed,
        out=out,
        cache=cache or default_cache(),
        samples=samples,
        rate=rate,
        keep=keep,
        lockstep=lockstep,
        record=record,
    )
    raise typer.Exit(run(options, Console(stderr=True, highlight=False)))


def default_cache() -> Path:
    """Where caches go on this machine."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path("~/.cache").expanduser()) / "driftwell" / "demo"


def require_extras() -> None:
    """Make sure that what only the demo needs is installed.

    Raises:
        SettingsError: naming what is missing, and the command that installs it.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        command = 'pip install "driftwell[demo]"'
        raise SettingsError(f"the demo also needs {', '.join(missing)}: {command}")
