"""The `driftwell` command: noun, then verb. Importing it costs no torch."""

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from driftwell.messages.errors import DriftwellError
from driftwell.tools.arithmetic import choose_arithmetic
from driftwell.tools.cli import (
    bench,
    broker,
    bundle,
    cloud,
    edge,
    model,
    modular,
    recording,
    submodels,
)
from driftwell.tools.cli.books import print_books
from driftwell.tools.cli.demo import run_demo
from driftwell.tools.cli.harden import run_harden
from driftwell.tools.cli.logs import configure_logs
from driftwell.tools.cli.record import run_record
from driftwell.tools.cli.replay import run_replay
from driftwell.tools.cli.whatif import run_whatif

USAGE_ERROR = 2

app = typer.Typer(
    name="driftwell",
    help="Keeps the models on a fleet of edge devices accurate, over MQTT.\n\n"
    "Begin with: driftwell demo",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
bundle.app.command("harden")(run_harden)
modular.app.command("plan")(submodels.plan)
modular.app.command("log")(submodels.log)
app.add_typer(edge.app, name="edge")
app.add_typer(cloud.app, name="cloud")
app.add_typer(bundle.app, name="bundle")
app.add_typer(modular.app, name="modular")
app.add_typer(broker.app, name="broker")
app.add_typer(bench.app, name="bench")
app.add_typer(recording.app, name="recording")
app.add_typer(model.app, name="model")
app.command("demo")(run_demo)
app.command("record")(run_record)
app.command("replay")(run_replay)
app.command("whatif")(run_whatif)
app.command("books")(print_books)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"driftwell {version('driftwell')}")
        raise typer.Exit


@app.callback()
def common_options(
    context: typer.Context,
    *,
    log_level: Annotated[
        str, typer.Option(help="debug, info, warning or error.", envvar="DRIFTWELL_LOG_LEVEL")
    ] = "info",
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    log_json: Annotated[
        bool,
        typer.Option("--log-json", help="One JSON object a line.", envvar="DRIFTWELL_LOG_JSON"),
    ] = False,
) -> None:
    """Logs go to standard error; results go to standard output."""
    configure_logs(log_level, as_json=log_json)
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # torch's profiler tells of each start
    # An edge has no bits to repeat, and every reason to be fast.
    default = "native" if context.invoked_subcommand == "edge" else "portable"
    choose_arithmetic(os.environ, default=default)


def main() -> None:
    """Run the command line; an error of ours is one line and exit code 2."""
    try:
        app()
    except BaseExceptionGroup as group:
        ours, others = group.split(DriftwellError)
        if ours is None or others is not None:
            raise
        _fail(_first(ours))
    except DriftwellError as error:
        _fail(error)
    except OSError as error:
        # Standard output is a file on a full disk, or closed. What is still in its buffer would
        # fail once more when the interpreter ends.
        sys.stdout = None
        _fail(f"the result cannot be written: {error.strerror or error}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        _fail('this command runs a model and needs PyTorch: pip install "driftwell[torch]"')


def _first(group: BaseExceptionGroup[DriftwellError]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _fail(error: BaseException | str) -> None:
    Console(stderr=True, highlight=False).print(
        f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True
    )
    sys.exit(USAGE_ERROR)
