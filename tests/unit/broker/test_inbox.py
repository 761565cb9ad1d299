"""The bounded queue between the connection and the program."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from driftwell.broker import Delivery
from driftwell.broker.inbox import Inbox


def delivery(payload: bytes = b"", qos: int = 1) -> Delivery:
    return Delivery("t", payload, qos, False, lambda: None)


@given(sizes=st.lists(st.integers(1, 50), max_size=30))
def test_it_never_holds_more_than_its_limit(sizes: list[int]) -> None:
    """Except for a single delivery that is larger than all of it."""
    inbox = Inbox(40)

    held: list[int] = []
    for size in sizes:
        if inbox.put(delivery(), size):
            held.append(size)
        assert sum(held) <= 40 or len(held) == 1


async def test_it_gives_back_in_order_of_arrival() -> None:
    """First in, first out, and room is free again."""
    inbox = Inbox(2)
    assert inbox.put(delivery(b"1"), 1)
    assert inbox.put(delivery(b"2"), 1)
    assert not inbox.put(delivery(b"3"), 1)

    assert (await anext(inbox)).payload == b"1"
    assert inbox.put(delivery(b"4"), 1)
    assert [(await anext(inbox)).payload for _ in range(2)] == [b"2", b"4"]


async def test_it_asks_for_redelivery_once_it_is_empty() -> None:
    """Of what was turned away with QoS 1; a QoS 0 message would not come again."""
    inbox = Inbox(1)
    seen: list[bool] = []
    for qos in (0, 1):
        inbox.put(delivery(), 1)
        inbox.put(delivery(qos=qos), 1)
        seen.append(inbox.wants_redelivery)
        await anext(inbox)
        seen.append(inbox.wants_redelivery)
    inbox.renewed()
    seen.append(inbox.wants_redelivery)

    assert seen == [False, False, False, True, False]


async def test_a_reader_waits_for_what_comes() -> None:
    """And is woken by it."""
    inbox = Inbox(1)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        reading = group.create_task(anext(inbox))
        await asyncio.sleep(0)
        inbox.put(delivery(b"1"), 1)

    assert reading.result().payload == b"1"
