"""`driftwell replay`: tell a recording again, to a broker or straight into a cloud."""

import asyncio
import secrets
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from driftwell.messages.errors import SettingsError
from driftwell.tools.cli.edge import Assignments, Config
from driftwell.tools.cli.logs import configure_logs
from driftwell.tools.replay.outcome import CloudReplay
from driftwell.tools.replay.plan import Wishes

INTERRUPTED: Final = 130
LOCAL_BROKER: Final = "mqtt://localhost:1883"

Many = list[str] | None


def run_replay(
    recording: Annotated[Path, typer.Argument(help="The recording, an .mcap file.")],
    *,
    into: Annotated[str, typer.Option(help="broker or cloud.")] = "broker",
    broker: Annotated[
        str | None, typer.Option(help=f"mqtt[s]://[user:pw@]host[:port] [{LOCAL_BROKER}]")
    ] = None,
    edge: Annotated[Path | None, typer.Option(help="Cloud: bundle the devices ran.")] = None,
    foundation: Annotated[Path | None, typer.Option(help="Cloud: bundle that teaches.")] = None,
    state: Annotated[
        Path | None, typer.Option(help="Cloud: new state folder, kept [a passing one].")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Cloud: cema or driftwell [the recording's, or cema].")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Cloud: seed of the replay [the recording's, or 0].")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Cloud: threads for training [1].")
    ] = None,
    digests: Annotated[
        bool, typer.Option("--digests", help="Cloud: the digest of each version, one a line.")
    ] = False,
    format_: Annotated[str, typer.Option("--format", help="Cloud: table or json.")] = "table",
    config: Config = None,
    assignments: Assignments = None,
    speed: Annotated[
        str, typer.Option(help="Recorded seconds a second, such as 1 or 10; or max.")
    ] = "",
    start: Annotated[
        str | None, typer.Option(help="Seconds from the beginning, or an ISO time.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="The same; included.")] = None,
    group: Annotated[str | None, typer.Option(help="Only this group.")] = None,
    device: Annotated[Many, typer.Option(help="Only this device; repeat for more.")] = None,
    kinds: Annotated[
        str | None, typer.Option(help="Such as state,samples [all that devices say].")
    ] = None,
    rename: Annotated[Many, typer.Option(help="old=new; repeat for more.")] = None,
    clone: Annotated[int, typer.Option(help="Play each device so many times.")] = 1,
    loop: Annotated[int | None, typer.Option(min=0, help="Passes; 0: for ever [1].")] = None,
    pause: Annotated[bool, typer.Option("--pause", help="Begin paused.")] = False,
    control: Annotated[
        bool, typer.Option("--control", help="Take commands as lines of standard input.")
    ] = False,
    keep_sessions: Annotated[
        bool, typer.Option("--keep-sessions", help="As recorded: a cloud knows them again.")
    ] = False,
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
        speed=speed or ("max" if into == "cloud" else "1"),
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
    given = [name for name, value in options.items() if value not in (None, False)]
    if given:
        raise SettingsError(f"{given[0]} belongs to {belongs_to}")


def _into_cloud(path: Path, wishes: Wishes, options: dict[str, Any]) -> None:
    for name in ("--edge", "--foundation"):
        if options[name] is None:
            raise SettingsError(f"--into cloud needs {name}, the folder of a bundle")
    if options["--format"] not in (None, "json"):
        raise SettingsError(f"--format {options['--format']!r} is not known; use table or json")
    from driftwell.tools.replay.bar import progress_bar
    from driftwell.tools.replay.cloud import Clock, open_cloud_replay, replay_into_cloud

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
    from driftwell.tools.programs import connect_replayer
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
            connection=connect_replayer(options["--broker"] or LOCAL_BROKER, run),
            console=console,
            monotonic_s=time.monotonic,
        )
    )
    _tell(console, outcome.lines())
    if is_interrupted:
        raise typer.Exit(INTERRUPTED)


def _tell(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
