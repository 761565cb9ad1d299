"""Starting a Mosquitto of one's own."""

import asyncio
from pathlib import Path

import pytest
from tests.brokers import require_mosquitto

from driftwell.broker.mosquitto_process import MosquittoProcess, find_mosquitto, open_config
from driftwell.messages.errors import BrokerError

pytestmark = pytest.mark.integration


async def accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


def test_it_is_found_where_debian_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the PATH first."""
    program = tmp_path / "mosquitto"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_mosquitto() == program


async def test_it_runs_until_the_block_ends() -> None:
    """On a free port; its files go with it."""
    require_mosquitto()
    async with MosquittoProcess() as broker:
        folder = broker.folder
        assert await accepts(broker.port)
        assert broker.url == f"mqtt://127.0.0.1:{broker.port}"
        assert broker.pid is not None

    assert not await accepts(broker.port)
    assert not folder.exists()


async def test_it_can_be_killed_and_come_back() -> None:
    """At the same port, so that clients find it."""
    require_mosquitto()
    async with MosquittoProcess() as broker:
        port, pid = broker.port, broker.pid
        await broker.kill()
        assert not await accepts(port)

        await broker.restart()

        assert broker.port == port
        assert broker.pid not in (None, pid)
        assert await accepts(port)


async def test_a_bad_configuration_is_shown() -> None:
    """The error ends with what Mosquitto said."""
    require_mosquitto()
    with pytest.raises(BrokerError, match="Unknown configuration variable"):
        async with MosquittoProcess(
            config=lambda port, folder: open_config(port, folder) + "colour blue\n"
        ):
            pass


async def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the way to get it."""
    monkeypatch.setattr("driftwell.broker.mosquitto_process.find_mosquitto", lambda: None)
    with pytest.raises(BrokerError, match="apt install mosquitto"):
        async with MosquittoProcess():
            pass

    with pytest.raises(BrokerError, match="nowhere"):
        async with MosquittoProcess(binary=tmp_path / "nowhere"):
            pass
