"""A cloud that may refine its fleet's sub-models, and images to do it with."""

from typing import Any

import numpy as np
from tests import tiny
from tests.unit.cloud.modular.keeping import Site

from driftwell.cloud.modular.offline_settings import RefinementSettings, RefiningSettings
from driftwell.cloud.modular.refinement import Refinement, Source
from driftwell.cloud.modular.refiner import Refiner
from driftwell.cloud.modular.refining import Labelled
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.network import Preparation

TRAINING = RefiningSettings(batches=30, batch=16, learning_rate=0.01)
SETTINGS = RefinementSettings(settle_s=60, training=TRAINING)
SHARES = [0.5, 0.5, 0.0]


def bright(count: int = 96) -> Labelled:
    """Images whose class is how bright they are."""
    labels = np.arange(count) % 3
    images = tiny.make_images(count) // 4 + (labels * 90).astype(np.uint8)[:, None, None, None]
    return Labelled(images, labels)


def refiner_of(
    site: Site,
    data: Labelled | None = None,
    settings: RefinementSettings = SETTINGS,
    name: str = "source",
) -> Refiner:
    def network() -> ModularNetwork:
        made = site.bundle.module()
        assert isinstance(made, ModularNetwork)
        return made

    prepare = Preparation(site.bundle.manifest.preprocessing)
    return Refiner(
        settings, Source(data or bright(), prepare, network, name, seed=0),
        fleet=site.keeper.fleet, catalogue=site.keeper.catalogue, registry=site.registry, keep=8,
    )  # fmt: skip


def derived(site: Site, device: str = "cam-1", **changes: Any) -> None:
    """The device has a sub-model, and has said of which classes its images are."""
    site.tell(device, **({"shares": SHARES} | changes))
    assert site.derive() is not None


def begun(refiner: Refiner) -> Refinement:
    """What it does with a fleet that has not changed for a minute, at 60 s of its clock."""
    assert refiner.due(0) is None
    refinement = refiner.due(60)
    assert refinement is not None
    return refinement
