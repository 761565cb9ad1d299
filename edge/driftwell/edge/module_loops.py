"""The loops of a device whose bundle is modular: pieces come, sub-models are built, limits change.

None of them is waited for by the loop that answers.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from driftwell.broker import Outcome
from driftwell.edge.device import Device
from driftwell.edge.limits_file import LOOK_S
from driftwell.edge.loops import publish_state, wait_for_broker
from driftwell.edge.modules import Modules
from driftwell.edge.supply import Whole
from driftwell.messages.blob import Fetch
from driftwell.messages.codec import encode
from driftwell.messages.errors import BundleError, WireError
from driftwell.messages.topics import Kind, device_topic

LONGEST_WAIT_S: Final = 60.0
"""After so long a loop looks at its state again, whatever was announced."""


async def fetch_loop(device: Device, modules: Modules) -> None:
    """Ask for the pieces that are lacking, again after each silence."""
    topic = device_topic(device.settings.group, device.settings.device, Kind.FETCH)
    fetching = modules.supply.fetching
    seq = 0

    def wait_s() -> float:
        wait_s = fetching.wait_s(device.clocks.monotonic_s())
        return LONGEST_WAIT_S if wait_s is None else wait_s

    while True:
        await _until(device, lambda: wait_s() == 0, wait_s())
        if wait_s() > 0:
            continue
        seq += 1
        fetch = Fetch(
            device=device.settings.device,
            session=device.session,
            seq=seq,
            clock_ns=device.clocks.wall_ns(),
            model=device.model,
            submodel=fetching.submodel,
            wants=fetching.ask(device.clocks.monotonic_s()),
        )
        answer = await device.connection.publish(topic, encode(fetch), qos=1, retain=False)
        if answer.outcome is Outcome.SPOOLED:
            await wait_for_broker(device)
            fetching.ask_anew()


async def submodel_loop(device: Device, modules: Modules) -> None:
    """Look into what has come, and build what is to run; both in threads."""
    while True:
        whole = modules.supply.next_whole()
        if whole is not None:
            modules.settle(whole, await asyncio.to_thread(_unpack, modules, whole))
            await device.announce()
            continue
        version = modules.decide(device.clocks.monotonic_s())
        if version is not None:
            await _switch(device, modules, version)
            continue
        waiting_for = modules.waiting_for

        def has_news(waiting_for: int | None = waiting_for) -> bool:
            return (
                modules.supply.has_whole
                or modules.decide(device.clocks.monotonic_s()) is not None
                or modules.waiting_for != waiting_for
            )

        wait_s = modules.wait_s(device.clocks.monotonic_s())
        await _until(device, has_news, LONGEST_WAIT_S if wait_s is None else wait_s)


async def limits_loop(device: Device, modules: Modules) -> None:
    """Look at the file of limits; when they change, the device and the cloud know at once."""
    while True:
        await asyncio.sleep(LOOK_S)
        if modules.look_at_limits():
            device.reading_wanted.set()
            await device.announce()
            await publish_state(device, "ready")  # only it can say that a limit is gone


def _unpack(modules: Modules, whole: Whole) -> bool | WireError:
    try:
        return modules.supply.unpack(whole)
    except WireError as error:
        return error


async def _switch(device: Device, modules: Modules, version: int) -> None:
    try:
        network = await asyncio.to_thread(modules.build, version)
    except BundleError as error:
        modules.not_built(version, error)
    else:
        modules.switch(version, network)
        # The cloud takes what a batch lasts here for what this sub-model costs here.
        device.timing.latency_s.clear()
        device.reading_wanted.set()
    await device.announce()


async def _until(device: Device, is_so: Callable[[], bool], timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s), device.changed:
            await device.changed.wait_for(is_so)
    except TimeoutError:
        pass
