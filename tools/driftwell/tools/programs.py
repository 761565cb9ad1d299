"""The two daemons as programs: clocks, randomness, sockets and signals are chosen here.

Everything below this module takes them as arguments.
"""

import random
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.registry import Collector

from driftwell.broker import BrokerSettings, Connection, Will, parse_broker_url
from driftwell.broker.backoff import Backoff
from driftwell.broker.mqtt import MqttConnection
from driftwell.cloud.consumer import Consumer
from driftwell.cloud.metrics import ConsumerCollector
from driftwell.cloud.modular.refining import Labelled
from driftwell.cloud.service import run_cloud
from driftwell.cloud.settings import CloudSettings
from driftwell.edge.daemon import Summary, run_edge
from driftwell.edge.device import Device
from driftwell.edge.metrics import DeviceCollector
from driftwell.edge.settings import EdgeSettings
from driftwell.edge.timing import Clocks
from driftwell.messages.errors import SettingsError
from driftwell.messages.topics import Kind, device_topic
from driftwell.models.bundle import read_manifest
from driftwell.tools.anchors import read_anchors
from driftwell.tools.signals import stop_on_signal

PACKET_OVERHEAD: Final = 1024  # bytes a packet may have beside its message
LARGEST_PACKET: Final = 268_435_455  # bytes; MQTT has no room for a larger number
CLOCKS: Final = Clocks(wall_ns=time.time_ns, monotonic_s=time.monotonic)


def new_session() -> str:
    """A session id: 16 hexadecimal digits nobody else draws."""
    return secrets.token_hex(8)


def state_home(name: str) -> Path:
    """Where a program keeps its state when it was not told."""
    return Path("~/.local/state/driftwell").expanduser() / name


def edge_client_id(group: str, device: str) -> str:
    """The MQTT client id of a device: stable, so that a second one takes the place over."""
    return f"driftwell/{group}/{device}"


def cloud_client_id(group: str) -> str:
    """The MQTT client id of a group's cloud; the `_` keeps it apart from every device's."""
    return f"driftwell/{group}/_cloud"


def connect_edge(settings: EdgeSettings) -> Callable[..., Connection]:
    """A maker of the device's MQTT connection; its session with the broker is clean.

    Nothing is lost by that: heads are retained, and what was not acknowledged is in the spool.
    """
    broker = _broker_settings(settings)

    def connect(subscriptions: tuple[tuple[str, int], ...], will: Will) -> Connection:
        return MqttConnection(
            settings=broker,
            client_id=edge_client_id(settings.group, settings.device),
            subscriptions=subscriptions,
            will=will,
            clean=True,
            echo_topic=device_topic(settings.group, settings.device, Kind.ECHO),
            backoff=Backoff(),
            uniform=random.uniform,
            clock=time.monotonic,
        )

    return connect


def connect_cloud(settings: CloudSettings) -> Callable[..., Connection]:
    """A maker of the cloud's MQTT connection; the broker keeps its session while it is away."""
    broker = _broker_settings(settings)

    def connect(subscriptions: tuple[tuple[str, int], ...]) -> Connection:
        return MqttConnection(
            settings=broker,
            client_id=cloud_client_id(settings.group),
            subscriptions=subscriptions,
            will=None,
            clean=False,
            echo_topic=device_topic(settings.group, "cloud", Kind.ECHO),
            backoff=Backoff(),
            uniform=random.uniform,
            clock=time.monotonic,
        )

    return connect


def connect_replayer(url: str, run: str) -> Connection:
    """The MQTT connection of one replay; it only publishes, and its name is of this run.

    Raises:
        SettingsError: if the URL is not understood.
    """
    return MqttConnection(
        # The recorded devices may have had a higher limit than is usual; the broker has its own.
        settings=replace(parse_broker_url(url), packet_limit_bytes=LARGEST_PACKET),
        client_id=f"driftwell/_replay/{run}",
        subscriptions=(),
        will=None,
        clean=True,
        echo_topic=None,
        backoff=Backoff(),
        uniform=random.uniform,
        clock=time.monotonic,
    )


def _broker_settings(settings: EdgeSettings | CloudSettings) -> BrokerSettings:
    broker = parse_broker_url(settings.broker)
    packet_bytes = settings.message_limit_bytes + PACKET_OVERHEAD
    return replace(broker, packet_limit_bytes=max(packet_bytes, broker.packet_limit_bytes))


async def edge_program(settings: EdgeSettings) -> Summary:
    """Run an edge daemon until its stream ends or it is told to stop."""

    def started(device: Device) -> None:
        serve_metrics(settings.metrics_port, DeviceCollector(device))

    with stop_on_signal() as stopping:
        return await run_edge(
            settings,
            connect=connect_edge(settings),
            session=new_session(),
            clocks=CLOCKS,
            stopping=stopping,
            started=started,
        )


async def cloud_program(settings: CloudSettings) -> dict[str, dict[str, int]]:
    """Run a cloud consumer until it is told to stop."""

    def started(consumer: Consumer) -> None:
        serve_metrics(settings.metrics_port, ConsumerCollector(consumer))

    with stop_on_signal() as stopping:
        return await run_cloud(
            settings,
            connect=connect_cloud(settings),
            session=new_session(),
            wall_ns=time.time_ns,
            stopping=stopping,
            data=_refinement_data(settings),
            started=started,
        )


def _refinement_data(settings: CloudSettings) -> Labelled | None:
    """The images that a modular model's sub-models are refined with.

    Raises:
        DriftwellError: if there is no such file, or it is not of the edge bundle.
    """
    file = settings.modules.refinement.data
    if file is None:
        return None
    _, manifest = read_manifest(settings.edge)
    classes = len(manifest.classes)
    return Labelled(*read_anchors(file, shape=manifest.input.shape, classes=classes))


def serve_metrics(port: int | None, collector: Collector) -> None:
    """Serve Prometheus metrics on the loopback interface.

    Raises:
        SettingsError: if the port is in use.
    """
    if port is None:
        return
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        raise SettingsError(f"metrics port {port}: {error}; choose another") from error
