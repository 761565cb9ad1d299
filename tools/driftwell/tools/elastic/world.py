"""The world of one run: what the cloud has beforehand, what each device sees, and may spend.

30 % of each class are the cloud's proxy data. A quarter of the rest is for testing. From the
remainder devices draw their labelled data, each of its own few classes (m of n label skew).
Everything but milliseconds follows from the seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from driftwell.messages.errors import SettingsError
from driftwell.models.footprint import Footprint
from driftwell.tools.elastic.plan import Shares
from driftwell.tools.elastic.problems import Problem
from driftwell.tools.elastic.samples import Numbers, Samples, by_class

PROXY_SHARE: Final = 0.3
TEST_SHARE: Final = 0.25
"""Of what is not proxy data."""
TEST_IMAGES: Final = 200
"""Of a device, where the data have as many of its classes."""
FEWEST, MOST = 50, 150
"""Labelled samples that a device has in one step."""
SPLIT, FLEET, DEVICE = range(3)
"""Second number of a seed: what is drawn from it. Methods count on from here."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What one device can spend.

    Each limit is a share of what the full network needs, drawn from the plan's shares, all as
    likely; the three by themselves. By default these are 0.2, 0.35, 0.5, 0.75 and 1.
    """

    memory_bytes: int
    """Peak of answering one image: parameters, buffers and activations."""
    latency_ms: float
    """Of a batch of 16."""
    download_bytes: int
    """In one adaptation step."""


@dataclass(frozen=True, slots=True)
class Device:
    """One device."""

    classes: tuple[int, ...]
    """Sorted; it meets no others."""
    steps: tuple[Samples, ...]
    """Labelled data at each adaptation step: 50 to 150 samples, always as many."""
    test: Samples
    """As many images of each of its classes."""
    budget: Budget


@dataclass(frozen=True, slots=True)
class Split:
    """Places of samples, disjoint: each class in the same shares."""

    proxy: Numbers
    training: Numbers
    test: Numbers


@dataclass(frozen=True, slots=True)
class World:
    """Everything that the methods are compared on."""

    problem: Problem
    proxy: Samples
    devices: tuple[Device, ...]
    full: Footprint
    """Of the full network, which the budgets are shares of."""


def make_world(
    problem: Problem,
    samples: Samples,
    *,
    devices: int,
    skew: int,
    steps: int,
    seed: int,
    full: Footprint,
    download_bytes: int,
    shares: Shares,
) -> World:
    """Deal samples out to the cloud and to devices.

    Args:
        problem: What the samples are of.
        samples: At least 8 of each class.
        devices: How many.
        skew: Classes of a device.
        steps: Adaptation steps; half of a device's data, rounded down, is replaced at each.
        seed: The cloud's data depend on it and on nothing else.
        full: Of the full network.
        download_bytes: Of the full network's parameters and buffers.
        shares: From which the devices' limits are drawn.

    Raises:
        SettingsError: if a number is out of range, or a class has too few samples.
    """
    if not 1 <= skew <= problem.classes:
        raise SettingsError(f"skew {skew} is not between 1 and {problem.classes} classes")
    if devices < 1 or steps < 1:
        raise SettingsError("a world has one device and one step at least")
    split = split_samples(samples.labels, problem.classes, seed=seed)
    dealt = deal_classes(problem.classes, devices=devices, skew=skew, seed=seed)
    return World(
        problem=problem,
        proxy=samples.at(split.proxy),
        devices=tuple(
            _device(
                samples, split, own, steps, np.random.default_rng([seed, DEVICE, number]),
                full, download_bytes, shares,
            )
            for number, own in enumerate(dealt)
        ),
        full=full,
    )  # fmt: skip


def split_samples(labels: Numbers, classes: int, *, seed: int) -> Split:
    """Deal each class out to proxy, training and test data.

    Raises:
        SettingsError: if one of them would hold nothing of a class.
    """
    source = np.random.default_rng([seed, SPLIT])
    proxy, training, test = [], [], []
    for number, places in enumerate(by_class(labels, classes)):
        order = source.permutation(places)
        known = round(PROXY_SHARE * len(order))
        asked = round(TEST_SHARE * (len(order) - known))
        if not 0 < known < known + asked < len(order):
            raise SettingsError(f"class {number} has {len(order)} samples: too few to deal out")
        proxy.append(order[:known])
        test.append(order[known : known + asked])
        training.append(order[known + asked :])
    # Shuffled: whoever goes through the proxy data in batches meets all classes in each.
    cloud = source.permutation(np.concatenate(proxy))
    return Split(cloud, np.concatenate(training), np.concatenate(test))


def deal_classes(
    classes: int, *, devices: int, skew: int, seed: int
) -> tuple[tuple[int, ...], ...]:
    """The classes of each device, sorted: at any time each is dealt out as often, or once more.

    So all are there once `devices * skew` reaches their number. Who gets which is drawn.
    """
    source = np.random.default_rng([seed, FLEET, skew])
    dealt = np.zeros(classes, np.int64)
    fleet = []
    for _ in range(devices):
        order = source.permutation(classes)
        own = order[np.argsort(dealt[order], kind="stable")][:skew]
        dealt[own] += 1
        fleet.append(tuple(sorted(own.tolist())))
    return tuple(fleet)


def windows(pool: Numbers, *, size: int, steps: int, source: np.random.Generator) -> list[Numbers]:
    """What a device holds at each step: the later half of what it held, then as many new ones.

    The new ones come in a drawn order. When all of the pool were there they come again, in
    another order; so a small pool may be there twice within one window.
    """
    fresh = size // 2
    wanted = size + (steps - 1) * fresh
    rounds = -(-wanted // len(pool))
    line = np.concatenate([source.permutation(pool) for _ in range(rounds)])
    return [line[step * fresh : step * fresh + size] for step in range(steps)]


def _device(
    samples: Samples, split: Split, classes: Sequence[int], steps: int,
    source: np.random.Generator, full: Footprint, download_bytes: int, shares: Shares,
) -> Device:  # fmt: skip
    # Limits first: they are the same with every skew.
    memory, latency, download = (
        float(source.choice(one)) for one in (shares.memory, shares.latency, shares.download)
    )
    size = int(source.integers(FEWEST, MOST + 1))
    asked = [split.test[samples.labels[split.test] == one] for one in classes]
    each = min(max(1, TEST_IMAGES // len(classes)), *map(len, asked))
    test = np.concatenate([source.permutation(places)[:each] for places in asked])
    pool = split.training[np.isin(samples.labels[split.training], classes)]
    return Device(
        classes=tuple(classes),
        steps=tuple(
            samples.at(places)
            for places in windows(pool, size=size, steps=steps, source=source)
        ),
        test=samples.at(test),
        budget=Budget(
            memory_bytes=round(memory * full.peak_bytes),
            latency_ms=latency * full.latency_ms,
            download_bytes=round(download * download_bytes),
        ),
    )  # fmt: skip
