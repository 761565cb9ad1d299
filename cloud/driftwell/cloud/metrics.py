"""The consumer's counters as Prometheus sees them, under the names used everywhere else."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from driftwell.cloud.consumer import Consumer
from driftwell.cloud.modular.keeper import ModuleKeeper


class ConsumerCollector(Collector):
    """Reads a running consumer; nothing is counted twice for Prometheus' sake."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def collect(self) -> Iterator[Metric]:
        """One family for each thing counted."""
        consumer = self._consumer
        events = CounterMetricFamily(
            "driftwell_cloud_events", "Steps, duplicates, refusals by code", labels=["event"]
        )
        for event, count in sorted(consumer.counters.copy().items()):
            events.add_metric([event], count)
        yield events
        pending = GaugeMetricFamily(
            "driftwell_cloud_pending", "Samples waiting for a step", labels=["cohort"]
        )
        version = GaugeMetricFamily("driftwell_cloud_version", "Newest version", labels=["cohort"])
        for name, cohort in sorted(consumer.cohorts.copy().items()):
            pending.add_metric([name], cohort.pending)
            version.add_metric([name], cohort.version)
        yield pending
        yield version
        if consumer.keeper is not None:
            yield from _modular(consumer.keeper)


def _modular(keeper: ModuleKeeper) -> Iterator[Metric]:
    devices = GaugeMetricFamily(
        "driftwell_cloud_submodel_version",
        "Version of a device's newest sub-model; 0: it has none yet",
        labels=["device"],
    )
    for device, member in sorted(keeper.fleet.members.copy().items()):
        devices.add_metric([device], member.manifest.version if member.manifest else 0)
    yield devices
    modules = GaugeMetricFamily(
        "driftwell_cloud_module_version",
        "Newest version of a module; 0 is the bundle's",
        labels=["layer", "module"],
    )
    for layer, module in keeper.catalogue.addresses:
        modules.add_metric([str(layer), str(module)], keeper.catalogue.version((layer, module)))
    yield modules
    yield GaugeMetricFamily(
        "driftwell_cloud_module_requests",
        "Devices that wait for pieces",
        value=len(keeper.requests),
    )
