"""The device's counters as Prometheus sees them, under the names used everywhere else."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from driftwell.edge.device import Device


class DeviceCollector(Collector):
    """Reads a running device; nothing is counted twice for Prometheus' sake."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def collect(self) -> Iterator[Metric]:
        """One family for each thing counted."""
        device = self._device
        samples = CounterMetricFamily(
            "driftwell_edge_samples", "Samples by what became of them", labels=["fate"]
        )
        books = device.spool.books()
        spooled = books.pop("spooled")
        for fate, count in sorted(books.items()):
            samples.add_metric([fate], count)
        yield samples
        events = CounterMetricFamily(
            "driftwell_edge_events", "Verdicts, versions applied and refused", labels=["event"]
        )
        for event, count in sorted(device.counters.copy().items()):
            events.add_metric([event], count)
        yield events
        yield GaugeMetricFamily("driftwell_edge_spooled", "Samples in the spool", value=spooled)
        yield GaugeMetricFamily(
            "driftwell_edge_version", "Version that answers", value=device.node.incumbent.version
        )
        if (modules := device.modules) is not None:
            yield GaugeMetricFamily(
                "driftwell_edge_submodel",
                "Version of the sub-model that answers; 0 is the fallback",
                value=modules.running,
            )
            yield GaugeMetricFamily(
                "driftwell_edge_pieces_bytes",
                "Fetched pieces on disk",
                value=modules.supply.store.size_bytes,
            )
        traffic = device.connection.traffic
        bytes_ = CounterMetricFamily(
            "driftwell_edge_bytes", "Bytes of PUBLISH packets", labels=["direction"]
        )
        bytes_.add_metric(["up"], traffic.bytes_up)
        bytes_.add_metric(["down"], traffic.bytes_down)
        yield bytes_
