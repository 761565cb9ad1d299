"""What the adapter tells the operator, and how little of it."""

import pytest
from structlog.testing import capture_logs
from tests.brokers import eventually, open_rig

pytestmark = pytest.mark.integration


async def test_an_operator_sees_connections_and_nothing_else() -> None:
    """One line when it stands, one when it is lost, with a reason; none for a message."""
    with capture_logs() as events:
        async with open_rig("embedded") as rig:
            edge = await rig.join("edge", "up/#")
            for _ in range(20):
                await edge.send("up/a", b"1")
            await edge.take(20)
            await rig.stop()
            await eventually(lambda: any(event["event"] == "broker.lost" for event in events))
            await rig.start()
            await edge.connection.next_epoch(1)

    up, lost, *others = events
    assert up["event"] == "broker.connected"
    assert (up["epoch"], up["mqtt"]) == (1, "3.1.1")
    assert lost["event"] == "broker.lost"
    assert lost["reason"] == "the connection was closed"
    assert (lost["failures"], lost["delay_s"]) == (1, 0.02)
    assert {event["event"] for event in others} <= {"broker.lost", "broker.connected"}
    assert others[-1]["epoch"] == 2
