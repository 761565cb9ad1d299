"""`driftwell replay`: tell a recording again, to a broker or straight into a cloud."""

import asyncio
import secrets
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from driftwell.messages.errors import SettingsError
from driftwell.tools.cli.logs import configure_logs
from driftwell.tools.replay.outcome import CloudReplay
from driftwell.tools.replay.plan import Wishes

if TYPE_CHECKING:
    from driftwell.broker import Connection

INTERRUPTED: Final = 130
LOCAL_BROKER: Final = "mqtt://localhost:1883"

BROKER: Final = "To a broker"
CLOUD: Final = "Into a cloud"

Many = list[str] | None


def run_replay(
    recording: Annotated[Path, typer.Argument(help="The recording, an .mcap file.")],
    *,
    into: Annotated[str, typer.Option(help="broker or cloud.")] = "broker",
    speed: Annotated[
        str | None,
        typer.Option(help="Recorded seconds a second; or max. To a broker 1, into a cloud max."),
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="Seconds from the beginning, or an ISO time.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="The same; included.")] = None,
    device: Annotated[Many, typer.Option(help="Only this device; repeat for more.")] = None,
    group: Annotated[str | None, typer.Option(help="Only this group.")] = None,
    kinds: Annotated[
        str | None, typer.Option(help="Such as state,samples; default: all that devices say.")
    ] = None,
    rename: Annotated[Many, typer.Option(help="old=new; repeat for more.")] = None,
    clone: Annotated[
        int, typer.Option(min=1, max=1000, help="Play each device so many times.")
    ] = 1,
    broker: Annotated[
        str | None, typer.Option(help=f"URL; default: {LOCAL_BROKER}", rich_help_panel=BROKER)
    ] = None,
    loop: Annotated[
        int | None, typer.Option(min=0, help="Passes, 0 for ever [1].", rich_help_panel=BROKER)
    ] = None,
    pause: Annotated[
        bool, typer.Option("--pause", help="Begin paused.", rich_help_panel=BROKER)
    ] = False,
    control: Annotated[
        bool,
        typer.Option(
            "--control", help="Commands as lines of standard input.", rich_help_panel=BROKER
        ),
    ] = False,
    keep_sessions: Annotated[
        bool,
        typer.Option(
            "--keep-sessions", help="As recorded: a cloud knows them.", rich_help_panel=BROKER
        ),
    ] = False,
    edge: Annotated[
        Path | None, typer.Option(help="Bundle the devices ran.", rich_help_panel=CLOUD)
    ] = None,
    foundation: Annotated[
        Path | None, typer.Option(help="Bundle that teaches.", rich_help_panel=CLOUD)
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="New folder for its state; default: none is kept.", rich_help_panel=CLOUD
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="Default: the recording's, else cema.", rich_help_panel=CLOUD),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Default: the recording's, else 0.", rich_help_panel=CLOUD)
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="For training [1].", rich_help_panel=CLOUD)
    ] = None,
    digests: Annotated[
        bool,
        typer.Option(
            "--digests", help="The digest of each version, one a line.", rich_help_panel=CLOUD
        ),
    ] = False,
    format_: Annotated[
        str, typer.Option("--format", help="table or json.", rich_help_panel=CLOUD)
    ] = "table",
    config: Annotated[
        Path | None, typer.Option(help="TOML file of settings.", rich_help_panel=CLOUD)
    ] = None,
    assignments: Annotated[
        Many,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any setting, such as method.policy.batch=64.",
            rich_help_panel=CLOUD,
        ),
    ] = None,
) -> None:
    """Tell a recording again: to a broker, at any pace, or straight into a cloud.

    Into a cloud, the same recording, settings and seed give the same digests, however fast.
    To a broker, on a terminal: space pauses, right arrow or . steps, [ and ] move by 10 s,
    + and - change the speed, q ends.

    Example: driftwell replay night.mcap --broker mqtt://localhost --speed 10 --clone 50

    Example: driftwell replay night.mcap --into cloud --edge bundles/edge
    --foundation bundles/foundation --digests
    """
    wishes = Wishes(
        kinds=tuple(name.strip() for name in kinds.split(",")) if kinds else (),
        devices=device or (),
        group=group,
        renames=rename or (),
        clones=clone,
        start=start,
        end=end,
        speed=("max" if into == "cloud" else "1") if speed is None else speed,
    )
    for_cloud = {
        "--edge": edge, "--foundation": foundation, "--state": state, "--method": method,
        "--seed": seed, "--threads": threads, "--digests": digests, "--config": config,
        "--set": assignments, "--format": None if format_ == "table" else format_,
    }  # fmt: skip
    for_broker = {
        "--broker": broker, "--loop": loop, "--pause": pause, "--control": control,
        "--keep-sessions": keep_sessions,
    }  # fmt: skip
    match into:
        case "cloud":
            _refuse(for_broker, "--into broker")
            _into_cloud(recording, wishes, for_cloud)
        case "broker":
            _refuse(for_cloud, "--into cloud")
            _to_broker(recording, wishes, for_broker)
        case _:
            raise SettingsError(f"--into {into!r} is not known; use broker or cloud")


def _refuse(options: dict[str, Any], belongs_to: str) -> None:
    given = [name for name, value in options.items() if value is not None and value is not False]
    if given:
        raise SettingsError(f"{given[0]} belongs to {belongs_to}")


def _into_cloud(path: Path, wishes: Wishes, options: dict[str, Any]) -> None:
    for name in ("--edge", "--foundation"):
        if options[name] is None:
            raise SettingsError(f"--into cloud needs {name}, the folder of a bundle")
    if options["--format"] not in (None, "json"):
        raise SettingsError(f"--format {options['--format']!r} is not known; use table or json")
    if options["--digests"] and options["--format"] == "json":
        raise SettingsError("--digests and --format json say it differently; choose one")
    from driftwell.tools.replay.bar import progress_bar
    from driftwell.tools.replay.cloud import Clock, open_cloud_replay, replay_into_cloud

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # either way, tidy up
    configure_logs("error", as_json=False)  # what a cloud says of each message is counted instead
    console = Console(stderr=True, highlight=False)
    clock = Clock(monotonic_s=time.monotonic, sleep=time.sleep)
    outcome = CloudReplay()
    with open_cloud_replay(
        path,
        wishes,
        state=options["--state"],
        method=options["--method"],
        file=options["--config"],
        assignments=options["--set"] or (),
        flags={
            "edge": options["--edge"],
            "foundation": options["--foundation"],
            "seed": options["--seed"],
        },
    ) as replay:
        told = replay.settings
        console.print(
            f"group {told.group}, method {told.method.name} ({told.method.digest}), "
            f"seed {told.seed}",
            soft_wrap=True,
        )
        try:
            with progress_bar(
                console, replay.plan.stretch, monotonic_s=clock.monotonic_s
            ) as progress:
                replay_into_cloud(
                    replay,
                    threads=options["--threads"] or 1,
                    clock=clock,
                    progress=progress,
                    outcome=outcome,
                )
        except KeyboardInterrupt:
            _tell(console, ["stopped before the end:", *outcome.lines()])
            raise typer.Exit(INTERRUPTED) from None
    _tell(console, outcome.lines())
    _print_versions(outcome, digests=options["--digests"], as_json=options["--format"] == "json")


def _print_versions(outcome: CloudReplay, *, digests: bool, as_json: bool) -> None:
    if digests:
        sys.stdout.write("".join(f"{version.digest}\n" for version in outcome.versions))
    elif as_json:
        sys.stdout.write(outcome.as_json() + "\n")
    else:
        table = Table("cohort", "version", "digest")
        for version in outcome.versions:
            table.add_row(version.cohort, str(version.version), version.digest)
        Console(width=None if sys.stdout.isatty() else 140).print(table)


def _to_broker(path: Path, wishes: Wishes, options: dict[str, Any]) -> None:
    from driftwell.tools.replay.broker import broker_program
    from driftwell.tools.replay.controls import has_keyboard
    from driftwell.tools.replay.player import BrokerWishes

    if options["--pause"] and not options["--control"] and not has_keyboard():
        raise SettingsError("--pause needs a terminal, or --control and commands as lines")

    configure_logs("warning", as_json=False)  # a live line is what one looks at
    console = Console(stderr=True, highlight=False)
    run = secrets.token_hex(8)
    loops = options["--loop"]
    outcome, is_interrupted = asyncio.run(
        broker_program(
            path,
            wishes,
            BrokerWishes(
                run=run,
                passes=1 if loops is None else loops,
                is_paused=options["--pause"],
                takes_lines=options["--control"],
                keeps_sessions=options["--keep-sessions"],
            ),
            connect=partial(_connect, options["--broker"] or LOCAL_BROKER, run),
            console=console,
            monotonic_s=time.monotonic,
        )
    )
    _tell(console, outcome.lines())
    if is_interrupted:
        raise typer.Exit(INTERRUPTED)


def _connect(url: str, run: str) -> "Connection":
    from driftwell.tools.programs import connect_replayer  # costs a second: it knows every program

    return connect_replayer(url, run)


def _tell(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
