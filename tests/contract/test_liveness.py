"""A connection that hangs is noticed, and one that is only quiet is left alone."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.brokers import SOON, Party, eventually, open_rig, require_mosquitto
from tests.contract.proxy import Proxy

from driftwell.broker import parse_broker_url
from driftwell.broker.client import WINDOW
from driftwell.broker.mosquitto_process import MosquittoProcess
from driftwell.broker.mqtt import MqttConnection

KEEPALIVE_S = 1
SETTINGS = parse_broker_url(f"mqtt://localhost?keepalive={KEEPALIVE_S}")

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("name", ["embedded", "mosquitto"])
async def test_a_half_open_connection_is_given_up_and_made_again(name: str) -> None:
    """Between 2.5 and 4 keepalives of silence; a quiet neighbour notices nothing."""
    async with open_rig(name) as rig:
        quiet = await rig.join("quiet", "down/#", settings=SETTINGS)
        edge = await rig.join("edge", "down/#", settings=SETTINGS)
        assert edge.proxy is not None

        began = time.monotonic()
        edge.proxy.go_silent()
        async with asyncio.timeout(4 * KEEPALIVE_S):
            await edge.connection.next_epoch(1)
        took_s = time.monotonic() - began

        # Something may have been heard a moment before the silence began, hence 2.4.
        assert took_s > 2.4 * KEEPALIVE_S
        cloud = await rig.join("cloud")
        await cloud.send("down/a", b"1")
        assert await edge.take() == await quiet.take() == [("down/a", b"1")]
        # The echo is no delivery, and neither end counts it.
        assert quiet.connection.epoch == 1
        assert quiet.connection.traffic.bytes_up == 0
        assert quiet.connection.traffic.bytes_down <= len(b"....down/a..1") + rig.is_mqtt_5


async def test_a_broker_that_answers_no_publish_is_left() -> None:
    """Only a new connection can bring the answers, even if pings were answered."""
    patient = replace(SETTINGS, keepalive_s=60, ack_timeout_s=0.02)
    async with open_rig("embedded") as rig:
        edge = await rig.join("edge", settings=patient)
        rig.hold_acks(edge)

        for _ in range(WINDOW):
            answer = await edge.connection.publish("up/a", b"", qos=1, retain=False)
            assert answer.reason == "timeout"

        assert await edge.connection.next_epoch(1) == 2
        await edge.send("up/a", b"")


async def test_a_program_that_only_listens_is_not_thrown_out() -> None:
    """The broker wants to hear something within one and a half keepalives, too."""
    async with open_rig("embedded") as rig:
        listener = await rig.join("listener", "up/#", settings=SETTINGS)
        edge = await rig.join("edge", settings=SETTINGS)
        until = time.monotonic() + 2.5 * KEEPALIVE_S

        while time.monotonic() < until:
            await edge.send("up/a", b"", qos=0)
            await listener.receive()
            await asyncio.sleep(0.1)

        assert listener.connection.epoch == edge.connection.epoch == 1


async def test_a_forbidden_echo_does_not_end_the_connection() -> None:
    """A broker whose access list forbids the echo still answers a ping."""
    require_mosquitto()

    def config(port: int, folder: Path) -> str:
        acl = folder / "acl"
        acl.write_text("topic read down/#\n")
        folder.chmod(0o755)
        return f"listener {port} 127.0.0.1\nallow_anonymous true\nacl_file {acl}\n"

    async with MosquittoProcess(config=config) as process, Proxy(process.port) as proxy:
        connection = MqttConnection(
            settings=replace(SETTINGS, host="127.0.0.1", port=proxy.port),
            client_id="edge",
            subscriptions=(("down/#", 1),),
            will=None,
            clean=True,
            echo_topic="echo/edge",
            backoff=SOON,
            uniform=lambda low, high: high,
            clock=time.monotonic,
        )
        party = Party(connection, proxy)
        async with asyncio.TaskGroup() as group:
            party.running = group.create_task(connection.run())
            await connection.next_epoch(0)

            with pytest.raises(TimeoutError):
                await eventually(lambda: connection.epoch > 1, within_s=3 * KEEPALIVE_S)

            await party.leave()
