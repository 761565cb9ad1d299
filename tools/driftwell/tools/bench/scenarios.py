"""Pure. In which order a bench's images come, from which stream, and to which device.

A scenario turns labelled streams, one a domain, into `Order`: numbers of images, nothing
copied. `schedule` deals them out to the devices and cuts them into batches.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from driftwell.messages.images import Pixels

Numbers = NDArray[np.int64]

START_NS: Final = 1_800_000_000 * 10**9
IMAGES_A_SECOND: Final = 30
"""Of each device in virtual time, as a slow camera gives them."""
CONCENTRATION: Final = 0.1
"""Of the Dirichlet distribution of `correlated`."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One domain."""

    name: str
    images: Pixels
    """(N, H, W, C)"""
    labels: Numbers
    """(N,)"""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Order:
    """Which image comes when; arrays (N,), N the number of images in all."""

    stream: Numbers
    position: Numbers
    """In its stream."""
    visit: Numbers
    """How often its domain has come back: 0, or 1 in the second round of `recurring`."""

    def __len__(self) -> int:
        return len(self.stream)


@dataclass(frozen=True, slots=True)
class Scheduled:
    """One batch of one device; arrays of one length N >= 1."""

    time_ns: int
    """When its last image came."""
    device: int
    at: Numbers
    """(N,): the images' places in the order."""
    images: Pixels
    labels: Numbers


def lined_up(order: Order, streams: Sequence[Stream], at: Numbers) -> tuple[Pixels, Numbers]:
    """Images (N, H, W, C) and labels (N,) of places (N,) in the order."""
    first = streams[0]
    images = np.empty((len(at), *first.images.shape[1:]), first.images.dtype)
    labels = np.empty(len(at), np.int64)
    for number in np.unique(order.stream[at]):
        is_of = order.stream[at] == number
        positions = order.position[at][is_of]
        images[is_of] = streams[number].images[positions]
        labels[is_of] = streams[number].labels[positions]
    return images, labels


def put_in_order(scenario: str, streams: Sequence[Stream], *, seed: int) -> Order:
    """The order of one run's images.

    Args:
        scenario: One of `SCENARIOS`.
        streams: One or more, not empty, in the order of the domains.
        seed: Permutes each stream beforehand; 0 leaves the order of the file.
    """
    generator = np.random.default_rng(seed)
    shuffled = [
        generator.permutation(len(stream)) if seed else np.arange(len(stream)) for stream in streams
    ]
    return SCENARIOS[scenario](streams, shuffled, generator)


def schedule(
    order: Order, streams: Sequence[Stream], *, devices: int, batch: int
) -> Iterator[Scheduled]:
    """Deal the images out, one to each device in turn, and yield the batches as they fill.

    Batches cross the borders of domains, as a camera's do. The last batch of a device may be
    smaller than `batch` images.
    """
    dealt = [np.arange(device, len(order), devices) for device in range(devices)]
    batches = [
        (own[first : first + batch], device)
        for device, own in enumerate(dealt)
        for first in range(0, len(own), batch)
    ]
    for at, device in sorted(batches, key=lambda one: int(one[0][-1])):
        images, labels = lined_up(order, streams, at)
        time_ns = START_NS + int(at[-1]) * 10**9 // (IMAGES_A_SECOND * devices)
        yield Scheduled(time_ns, device, at, images, labels)


def count_batches(images: int, *, devices: int, batch: int) -> list[int]:
    """How many batches each device gets of so many images; 0 where there are too few."""
    return [-(-len(range(device, images, devices)) // batch) for device in range(devices)]


def _in_turn(
    streams: Sequence[Stream], shuffled: Sequence[Numbers], _: np.random.Generator
) -> Order:
    """One domain after the other."""
    return _joined(
        [np.full(len(stream), number) for number, stream in enumerate(streams)], shuffled
    )


def _gradual(
    streams: Sequence[Stream], shuffled: Sequence[Numbers], _: np.random.Generator
) -> Order:
    """Neighbouring domains cross-fade over the last quarter of one and the first of the next.

    The share of the next domain rises linearly from 0 to 1. So the images it gives stand at the
    quantiles of the density 2t of the zone 0 <= t <= 1, and those of the domain before it
    at those of 2(1 - t).
    """
    times = []
    for number, stream in enumerate(streams):
        quarter = len(stream) // 4
        time = np.full(len(stream), number + 0.5)  # between two zones, in the stream's order
        share = (np.arange(quarter) + 0.5) / max(1, quarter)
        if number > 0:
            time[:quarter] = number - 0.25 + 0.5 * np.sqrt(share)
        if number < len(streams) - 1:
            time[len(stream) - quarter :] = number + 0.75 + 0.5 * (1 - np.sqrt(1 - share))
        times.append(time)
    return _sorted_by(times, shuffled)


def _mixed(
    streams: Sequence[Stream], shuffled: Sequence[Numbers], generator: np.random.Generator
) -> Order:
    """All domains at once, evenly; within a round of one image each the order is drawn.

    Drawn, so that no device gets the same domains over and over. A batch of fewer images than
    there are domains cannot hold all of them.
    """
    longest = max(map(len, streams))
    times = [
        np.floor(np.arange(len(stream)) * longest / len(stream)) + generator.random(len(stream))
        for stream in streams
    ]
    return _sorted_by(times, shuffled)


def _correlated(
    streams: Sequence[Stream], shuffled: Sequence[Numbers], generator: np.random.Generator
) -> Order:
    """Labels come in runs: a Dirichlet distribution deals each class out over the stream.

    As in NOTE (Gong et al., NeurIPS 2022, section 4) and RoTTA (Yuan et al., CVPR 2023, section
    4): the stream has slots, the shares of a class in them are drawn from a Dirichlet
    distribution of concentration 0.1, and within a slot the classes come one after the
    other. Ours: as many slots as classes, and the order of the classes in a slot is drawn.
    """
    ordered = []
    for stream, positions in zip(streams, shuffled, strict=True):
        labels = stream.labels[positions]
        classes = np.unique(labels)
        slots: list[list[Numbers]] = [[] for _ in classes]
        for one in classes:
            own = positions[labels == one]
            shares = generator.dirichlet(np.full(len(classes), CONCENTRATION))
            cuts = np.round(np.cumsum(shares)[:-1] * len(own)).astype(np.int64)
            for slot, part in zip(slots, np.split(own, cuts), strict=True):
                slot.append(part)
        runs = [slot[place] for slot in slots for place in generator.permutation(len(slot))]
        ordered.append(np.concatenate(runs))
    return _in_turn(streams, ordered, generator)


def _recurring(
    _streams: Sequence[Stream], shuffled: Sequence[Numbers], _: np.random.Generator
) -> Order:
    """All domains twice, with other images the second time: a half of each stream in each round."""
    halves = [
        [positions[: len(positions) // 2] for positions in shuffled],
        [positions[len(positions) // 2 :] for positions in shuffled],
    ]
    parts = [(visit, number, part) for visit in (0, 1) for number, part in enumerate(halves[visit])]
    return Order(
        np.concatenate([np.full(len(part), number) for _, number, part in parts]),
        np.concatenate([part for _, _, part in parts]),
        np.concatenate([np.full(len(part), visit) for visit, _, part in parts]),
    )


def _joined(numbers: Sequence[Numbers], positions: Sequence[Numbers]) -> Order:
    stream, position = np.concatenate(numbers), np.concatenate(positions)
    return Order(stream, position, np.zeros(len(stream), np.int64))


def _sorted_by(times: Sequence[NDArray[np.float64]], positions: Sequence[Numbers]) -> Order:
    """All images by their times; of equal ones the earlier stream's come first."""
    by_time = np.argsort(np.concatenate(times), kind="stable")
    stream = np.concatenate([np.full(len(time), number) for number, time in enumerate(times)])
    return _joined([stream[by_time]], [np.concatenate(positions)[by_time]])


Scenario = Callable[[Sequence[Stream], Sequence[Numbers], np.random.Generator], Order]

SCENARIOS: Final[Mapping[str, Scenario]] = MappingProxyType(
    {
        "reset": _in_turn,
        "continual": _in_turn,
        "gradual": _gradual,
        "mixed": _mixed,
        "correlated": _correlated,
        "recurring": _recurring,
        "clean": _in_turn,
    }
)
ONE_STREAM_A_RUN: Final = frozenset({"reset", "correlated", "clean"})
"""Every stream is a run by itself, with everything anew; otherwise all of them are one run."""
