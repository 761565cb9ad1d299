"""`driftwell replay` as a process: real brokers, a real cloud, a terminal."""

import asyncio
import fcntl
import os
import pty
import signal
import subprocess
import termios
from pathlib import Path

import pytest
from tests.brokers import Party, eventually, open_rig
from tests.e2e.replaying import (
    COMMAND,
    LIMIT_S,
    MESSAGES,
    VERSIONS,
    Cloud,
    Process,
    driftwell,
    open_port,
    port_of,
    recorded_order,
    replay,
)
from tests.golden.recording.write import (
    RECORDING,
    SESSIONS,
    replay_command,
    replay_environment,
)

from driftwell.messages import decode
from driftwell.messages.topics import parse_topic

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("broker", ["embedded", "mosquitto"])
async def test_everything_arrives_in_order(broker: str) -> None:
    """A broker hears the whole recording, each topic in its order, and the last state stays."""
    async with open_rig(broker) as rig:
        party = await rig.join("listener", "driftwell/v1/#")
        await replay(port_of(rig))
        heard = await take(party, MESSAGES)
        late = await rig.join("late", "driftwell/v1/+/+/state")
        retained = await late.receive(3)

    order: dict[str, list[int]] = {}
    for topic, payload in heard:
        order.setdefault(topic, []).append(decode(payload).seq)
    assert order == recorded_order()
    assert {decode(payload).session for _, payload in heard}.isdisjoint(SESSIONS.values())
    assert all(delivery.retain for delivery in retained)


@pytest.fixture(scope="module")
def straight_in() -> list[str]:
    """The digests of what the recording makes without a broker."""
    done = subprocess.run(
        replay_command(), check=True, capture_output=True, text=True, env=replay_environment()
    )
    assert "Traceback" not in done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("options", [(), ("--keep-sessions",)], ids=["new", "kept"])
async def test_a_real_cloud_makes_the_same_versions(
    straight_in: list[str], tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Over Mosquitto or straight in, in old sessions or new: the same bits."""
    async with open_port("mosquitto") as port, Cloud(port, tmp_path / "cloud") as cloud:
        await replay(port, *options)
        await cloud.wait_for(VERSIONS)
        digests = await cloud.digests()

    assert digests == straight_in


async def test_twice_the_same_is_learned_once(tmp_path: Path) -> None:
    """In its old sessions a recording teaches a cloud nothing twice; in new ones it does."""
    async with open_port("mosquitto") as port, Cloud(port, tmp_path / "cloud") as cloud:
        await replay(port, "--keep-sessions")
        await replay(port, "--keep-sessions")
        await replay(port, "--device", "cam-1")
        more = {"cam-1": 2 * VERSIONS["cam-1"], "yard": VERSIONS["yard"]}
        await cloud.wait_for(more)
        versions = await cloud.versions()

    assert versions == more


async def test_clones_make_cohorts(tmp_path: Path) -> None:
    """Five that play one device are five devices for the cloud, each with its own versions."""
    async with open_port("mosquitto") as port, Cloud(port, tmp_path / "cloud") as cloud:
        await replay(port, "--device", "cam-1", "--rename", "cam-1=gate", "--clone", "5")
        expected = {f"gate-00{number}": VERSIONS["cam-1"] for number in range(1, 6)}
        await cloud.wait_for(expected)
        versions = await cloud.versions()

    assert versions == expected


async def test_the_state_folder_is_a_clouds(tmp_path: Path) -> None:
    """What a replay leaves can be asked like any cloud's folder, and begun anew only elsewhere."""
    arguments = (*replay_command()[len(COMMAND) :], "--state", str(tmp_path / "state"))

    digests = await driftwell(*arguments)
    kept = await driftwell("cloud", "versions", "--state", tmp_path / "state", "--digests")
    again, _, errors = await (await Process.start(*arguments)).end()

    assert digests == kept != ""
    assert (again, errors.count("\n")) == (2, 1)
    assert "is not empty, and a replay begins at the source state" in errors


async def take(party: Party, count: int) -> list[tuple[str, bytes]]:
    """The next messages, each acknowledged before the next: a broker holds back what is more."""
    return [message for _ in range(count) for message in await party.take()]


async def seqs(party: Party, count: int) -> list[tuple[str, int]]:
    """Device and number of the next samples."""
    heard = await take(party, count)
    return [(parse_topic(topic).device, decode(payload).seq) for topic, payload in heard]


async def test_commands_as_lines() -> None:
    """Step, seek, go and quit over standard input, each answered with where the replay is."""
    async with open_rig("mosquitto") as rig:
        party = await rig.join("listener", "driftwell/v1/+/+/samples")
        process = await Process.start(
            "replay", RECORDING, "--broker", f"mqtt://127.0.0.1:{port_of(rig)}", "--pause",
            "--control", "--kinds", "samples", "--speed", "100",
        )  # fmt: skip
        stepped = await process.say("step 2")
        first = await seqs(party, 2)
        sought = await process.say("seek 30")
        wrong = await process.say("seek 1000")
        unknown = await process.say("stop")
        await process.say("step")
        second = await seqs(party, 1)
        back = await process.say("[")
        gone = await process.say("go")
        third = await seqs(party, 3)
        await process.say("pause")
        await process.say("speed max")
        code, _, errors = await _end(process, "quit")

    assert "64." in stepped
    assert ", paused, speed 100, 2 messages" in stepped
    assert first == [("cam-1", 1), ("cam-2", 1)]
    assert sought.startswith("30.000 of")
    assert "seek 1000 is outside of the recording: it runs from 0 to" in wrong
    assert "'stop' is not a command; there are: pause, go" in unknown
    assert second == [("cam-1", 6)]
    assert float(back.split()[0]) > 20
    assert ", playing, speed 100," in gone
    assert third == [("cam-1", 5), ("cam-2", 5), ("cam-3", 5)]
    assert code == 0, errors
    assert "messages a second; 0 refused" in errors


async def _end(process: Process, line: str) -> tuple[int, str, str]:
    assert process._process.stdin is not None
    process._process.stdin.write(line.encode() + b"\n")
    return await process.end()


async def test_ctrl_c_at_a_broker() -> None:
    """It ends in good order: what was sent is told, and the exit code says it was not all."""
    async with open_rig("mosquitto") as rig:
        party = await rig.join("listener", "driftwell/v1/#")
        process = await Process.start(
            "replay", RECORDING, "--broker", f"mqtt://127.0.0.1:{port_of(rig)}"
        )
        await party.take(3)
        code, output, errors = await process.end(signal.SIGINT)

    assert (code, output) == (130, "")
    assert errors.startswith("3 messages, ")
    assert "Traceback" not in errors


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_in_a_cloud(tmp_path: Path, how: signal.Signals) -> None:
    """No list of digests that is not whole, and nothing is left behind."""
    process = await Process.start(
        *replay_command("--speed", "1")[len(COMMAND) :], TMPDIR=str(tmp_path)
    )
    await process.hear_until("group golden, method cema")
    await eventually(lambda: len(passing_folders(tmp_path)) == 1, LIMIT_S)
    code, output, errors = await process.end(how)

    assert (code, output) == (130, "")
    assert errors.startswith("stopped before the end:\n")
    assert "Traceback" not in errors
    assert passing_folders(tmp_path) == []


def passing_folders(folder: Path) -> list[Path]:
    """Those in which a cloud has begun."""
    return [ledger.parent for ledger in folder.glob("driftwell-replay-*/cloud.sqlite")]


@pytest.mark.parametrize("end", ["q", "ctrl-c"])
async def test_keys_of_a_terminal(end: str) -> None:
    """Keys are obeyed at once and not shown, and afterwards the terminal is as it was."""
    async with open_rig("mosquitto") as rig:
        party = await rig.join("listener", "driftwell/v1/+/+/samples")
        keyboard, terminal = pty.openpty()
        before = termios.tcgetattr(terminal)
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "replay", str(RECORDING), "--broker", f"mqtt://127.0.0.1:{port_of(rig)}",
            "--pause", "--kinds", "samples", env={**replay_environment(), "TERM": "xterm"},
            stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        shown = asyncio.Task(_read_all(keyboard))
        await eventually(lambda: termios.tcgetattr(terminal) != before, LIMIT_S)
        os.write(keyboard, b".\x1b[C")
        stepped = await seqs(party, 2)
        os.write(keyboard, b"]" * 3 + b".")
        sought = await seqs(party, 1)
        os.write(keyboard, b"q" if end == "q" else b"\x03")
        async with asyncio.timeout(LIMIT_S):
            code = await process.wait()
        after = termios.tcgetattr(terminal)
        os.close(terminal)
        text = await shown

    assert stepped == [("cam-1", 1), ("cam-2", 1)]
    assert sought == [("cam-1", 7)]
    assert code == (0 if end == "q" else 130)
    assert after == before
    assert "of 64." in text
    assert "paused, speed 1" in text
    assert "3 messages, " in text


async def _read_all(descriptor: int) -> str:
    def read() -> bytes:
        said = b""
        try:
            while block := os.read(descriptor, 4096):
                said += block
        except OSError:  # the other side is closed
            pass
        finally:
            os.close(descriptor)
        return said

    return (await asyncio.to_thread(read)).decode(errors="replace")
