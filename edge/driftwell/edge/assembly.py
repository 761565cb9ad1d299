"""Puts a node together from a device's settings: the same for the daemon and in virtual time."""

from collections.abc import Callable
from pathlib import Path

from driftwell.edge.model import Model
from driftwell.edge.node import EdgeNode
from driftwell.edge.settings import EdgeSettings
from driftwell.edge.subnetwork import ModularModel, whole_source
from driftwell.models.bundle import open_bundle, read_manifest
from driftwell.models.modular.bundle import open_modular


def open_model(path: Path) -> Model:
    """Open a bundle as a device does: of a modular one, the fallback is enough.

    Raises:
        BundleError: as `open_bundle` and `open_modular`.
    """
    if read_manifest(path)[1].modular is None:
        return open_bundle(path)
    modular = open_modular(path)
    return ModularModel(modular, whole_source(modular))


def build_node(settings: EdgeSettings, bundle: Model, clock: Callable[[], float]) -> EdgeNode:
    """The node of a device; `clock` gives seconds, and only measures."""
    return EdgeNode(
        bundle,
        settings.filter,
        selection=settings.selection,
        drift=settings.drift,
        bank=settings.bank,
        group=settings.group,
        cohort=settings.cohort_name,
        statistics=settings.statistics,
        own_statistics=settings.own_statistics,
        clock=clock,
    )
