"""The configuration that is shipped, in a real Mosquitto with four users.

Only ports and paths are replaced.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from tests.brokers import SOON, Party, require_mosquitto
from tests.contract.credentials import password_line, write_certificate
from tests.contract.proxy import Proxy

from driftwell.broker import BrokerSettings, Outcome, Publication, Will
from driftwell.broker.mosquitto_process import MosquittoProcess
from driftwell.broker.mqtt import MqttConnection
from driftwell.messages.topics import Kind, device_topic

SHIPPED = Path(__file__).resolve().parents[2] / "broker"
USERS = ("cloud", "camera-1", "camera-2", "recorder")
REFUSED = Publication(Outcome.REFUSED, "denied")


def topic(device: str, kind: Kind) -> str:
    return device_topic("home", device, kind)


class Site:
    """The shipped broker with four users, and whoever is connected to it."""

    def __init__(self, group: asyncio.TaskGroup, stack: AsyncExitStack) -> None:
        self.process = MosquittoProcess(config=self._config)
        self._tls = Proxy(0)  # only for the free port that it finds
        self.tls_port = 0
        self._group = group
        self._stack = stack
        self._parties: list[Party] = []

    async def open(self) -> None:
        async with self._tls:
            self.tls_port = self._tls.port
        await self._stack.enter_async_context(self.process)

    async def close(self) -> None:
        for party in self._parties:
            await party.leave()

    def settings(self, user: str) -> BrokerSettings:
        plain = BrokerSettings(
            host="127.0.0.1", port=self.process.port, username=user, password=user[::-1]
        )
        if user == "cloud":
            return plain
        return replace(
            plain, port=self.tls_port, tls=True, ca_file=self.process.folder / "server.crt"
        )

    async def join(
        self,
        user: str,
        *filters: str,
        client_id: str = "",
        settings: BrokerSettings | None = None,
        will: Will | None = None,
        within_s: float = 5.0,
    ) -> Party:
        """Connect a user who subscribes with QoS 1, and wait until he is connected."""
        connection = MqttConnection(
            settings=settings or self.settings(user),
            client_id=client_id or user,
            subscriptions=tuple((topic_filter, 1) for topic_filter in filters),
            will=will,
            clean=True,
            echo_topic=topic(user, Kind.ECHO),
            backoff=SOON,
            uniform=random.uniform,
            clock=time.monotonic,
        )
        party = Party(connection, None)
        party.running = self._group.create_task(connection.run())
        self._parties.append(party)
        async with asyncio.timeout(within_s):
            await connection.next_epoch(0)
        return party

    def _config(self, port: int, folder: Path) -> str:
        # Mosquitto leaves root behind, and reads these files after that.
        folder.chmod(0o755)
        (folder / "data").mkdir(exist_ok=True)
        (folder / "data").chmod(0o777)
        (folder / "passwd").write_text("\n".join(map(password_line, USERS)) + "\n")
        (folder / "acl").write_text((SHIPPED / "acl").read_text())
        write_certificate(folder)
        text = (SHIPPED / "mosquitto.conf").read_text()
        for shipped, ours in (
            ("password_file /etc/mosquitto/driftwell.passwd", f"password_file {folder}/passwd"),
            ("acl_file /etc/mosquitto/driftwell.acl", f"acl_file {folder}/acl"),
            ("persistence_location /var/lib/mosquitto/", f"persistence_location {folder}/data/"),
            ("certfile /etc/mosquitto/certs/server.crt", f"certfile {folder}/server.crt"),
            ("keyfile /etc/mosquitto/certs/server.key", f"keyfile {folder}/server.key"),
            ("listener 1883 127.0.0.1", f"listener {port} 127.0.0.1"),
            ("listener 8883", f"listener {self.tls_port} 127.0.0.1"),
        ):
            assert text.count(f"\n{shipped}\n") == 1, shipped
            text = text.replace(f"\n{shipped}\n", f"\n{ours}\n")
        return text


@asynccontextmanager
async def open_site() -> AsyncIterator[Site]:
    require_mosquitto()
    try:
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            site = Site(group, stack)
            await site.open()
            try:
                yield site
            finally:
                await site.close()
    except BaseExceptionGroup as errors:
        if len(errors.exceptions) > 1:
            raise
        raise errors.exceptions[0] from None
