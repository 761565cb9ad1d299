"""A keeper of the tiny modular model's modules, with costs that a test can count."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from tests import tiny, tiny_modular

from driftwell.cloud.modular.catalogue import Address
from driftwell.cloud.modular.keeper import ModuleKeeper
from driftwell.cloud.modular.layout import Layout
from driftwell.cloud.modular.planner import LATENCY, MEMORY, ResourceCost
from driftwell.cloud.modular.registry import ModuleRegistry
from driftwell.cloud.modular.settings import ModuleSettings
from driftwell.messages import (
    Delta,
    Inference,
    Link,
    ModelLimits,
    Modular,
    ModuleUpdate,
    Resources,
    Telemetry,
)
from driftwell.messages.blob import in_order
from driftwell.messages.delta import encode_delta
from driftwell.messages.signing import read_submodel
from driftwell.messages.submodel import SubModelManifest
from driftwell.models.bundle import Bundle
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pieces import read_module

MODULES: Final = 6


def importance_of(*layers: NDArray[np.float64]) -> tuple[bytes, ...]:
    """Importance as a device sends it."""
    return tuple(layer.astype("<f4").tobytes() for layer in layers)


LAYOUT: Final = Layout(
    costs={
        MEMORY: ResourceCost([np.array([10.0] * 5 + [0.0])] * 2, trunk=100.0),
        LATENCY: ResourceCost([np.array([1.0] * 5 + [0.0])] * 2, trunk=2.0),
    },
    fallback=((5,), (5,)),
    classes=3,
)
"""The trunk takes 100 bytes and 2 ms, a module 10 bytes and 1 ms, the bypass nothing."""
EVEN: Final = importance_of(np.full(MODULES, 1 / 6), np.full(MODULES, 1 / 6))
RESOURCES: Final = Resources(
    cpu_percent=10.0,
    memory_used_bytes=1000,
    memory_total_bytes=2000,
    process_memory_bytes=100,
    disk_free_bytes=10**9,
)


class Site:
    """A keeper, its clock and its counters."""

    def __init__(self, folder: Path, bundle: Bundle, settings: ModuleSettings) -> None:
        self.bundle = bundle
        self.now_ns = tiny.NOW_NS
        self.counters: Counter[str] = Counter()
        self.registry = ModuleRegistry(folder, model=bundle.digest)
        network = bundle.module()
        assert isinstance(network, ModularNetwork)
        self.modules = {
            (layer, module): read_module(network, layer, module)
            for layer, held in enumerate(network.held)
            for module in held
        }
        self.keeper = ModuleKeeper(
            settings,
            group="default",
            model=bundle.digest,
            modules=dict(self.modules),
            layout=LAYOUT,
            registry=self.registry,
            key=tiny.KEY,
            expiry_days=30.0,
            wall_ns=lambda: self.now_ns,
            counters=self.counters,
        )

    def tell(self, device: str = "cam-1", **changes: Any) -> None:
        """A reading of a device; `changes` are those of its field `modular`."""
        self.say(telemetry(self.bundle.digest, device, **changes))

    def say(self, message: Telemetry) -> None:
        self.keeper.take_telemetry(message, msgspec.msgpack.encode(message))

    def derive(self) -> SubModelManifest | None:
        """What the next device that needs a sub-model gets; None: none does, or nothing new."""
        derivation = self.keeper.next_derivation()
        if derivation is None:
            return None
        stored = self.keeper.derived(derivation, derivation.choose())
        return None if stored is None else read_submodel(stored.manifest)

    def wait(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)

    def update(
        self, address: Address, *, seq: int = 1, by: float = 0.01, **changes: Any
    ) -> ModuleUpdate:
        """A device moved a module by a share of its own values."""
        version = self.keeper.catalogue.newest(address)
        fields: dict[str, Any] = {
            "device": "cam-1",
            "session": tiny.SESSION,
            "seq": seq,
            "clock_ns": self.now_ns,
            "model": self.bundle.digest,
            "module": version.piece,
            "base_version": version.number,
            "samples": 100,
            "importance": 0.5,
            "delta": moved_by(version.arrays, by),
        }
        return ModuleUpdate(**(fields | changes))

    def send(self, update: ModuleUpdate) -> None:
        self.keeper.take_update(update, msgspec.msgpack.encode(update))


def moved_by(arrays: dict[str, NDArray[np.float32]], by: float) -> Delta:
    """The difference to arrays that are larger by a share of themselves."""
    before = in_order(arrays)
    after = {name: np.asarray(array * np.float32(1 + by)) for name, array in before.items()}
    return encode_delta(before, after)


def telemetry(model: str, device: str = "cam-1", **changes: Any) -> Telemetry:
    """A reading of a device whose data use all modules alike."""
    fields: dict[str, Any] = {"submodel": 0, "importance": EVEN, "images": 640}
    if (shares := changes.pop("shares", None)) is not None:
        changes["class_shares"] = np.array(shares, "<f4").tobytes()
    resources = changes.pop("resources", RESOURCES)
    latency_ms = changes.pop("latency_ms", None)
    return Telemetry(
        device=device,
        session=tiny.SESSION,
        seq=1,
        clock_ns=tiny.NOW_NS,
        model=model,
        resources=resources,
        inference=Inference(batches=10, latency_ms_p50=latency_ms, entropy_max_nats=1.0, version=0),
        link=Link(bytes_up=0, bytes_down=0, connects=1),
        counters={},
        modular=Modular(**(fields | changes)),
    )


def memory(limit_bytes: int) -> ModelLimits:
    return ModelLimits(memory_bytes=limit_bytes)


@contextmanager
def open_site(
    folder: Path, bundle: Bundle | None = None, settings: ModuleSettings | None = None
) -> Iterator[Site]:
    """A keeper whose registry is in the folder."""
    site = Site(folder, bundle or tiny_modular.make_modular(folder), settings or ModuleSettings())
    try:
        yield site
    finally:
        site.registry.close()
