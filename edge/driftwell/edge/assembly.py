"""Puts a node together from a device's settings: the same for the daemon and in virtual time."""

from collections.abc import Callable

from driftwell.edge.node import EdgeNode
from driftwell.edge.settings import EdgeSettings
from driftwell.models.bundle import Bundle


def build_node(settings: EdgeSettings, bundle: Bundle, clock: Callable[[], float]) -> EdgeNode:
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
