"""Runs a recording again in virtual time: devices, a cloud, and nothing between them.

A recorded batch comes at its recorded time. What the device uploads is learned from at
once, and the versions are with every device of the cohort before its next batch. A live
run in lockstep goes just so, so that the same settings give the same versions.
"""

from collections.abc import Mapping

from driftwell.broker.connection import publish_packet_size
from driftwell.cloud.heads import encode_head
from driftwell.cloud.tables import StoredVersion
from driftwell.cloud.virtual import VirtualCloud
from driftwell.edge.settings import EdgeSettings
from driftwell.messages.errors import TooLargeError
from driftwell.messages.names import EVERYONE
from driftwell.messages.topics import ROUTES, Kind, device_topic
from driftwell.models.bundle import Bundle
from driftwell.recording.batches import Batch, Cutter
from driftwell.tools.whatif.device import VirtualDevice
from driftwell.tools.whatif.results import Made
from driftwell.tools.whatif.streams import Part, Run
from driftwell.tools.whatif.tally import Tally


class Rig:
    """Every device of a recording, and the cloud they share."""

    def __init__(
        self,
        cloud: VirtualCloud,
        bundle: Bundle,
        settings: Mapping[str, EdgeSettings],
        batches: Mapping[Run, int],
        *,
        recuts: bool,
    ) -> None:
        """Set it up.

        Args:
            cloud: Learns.
            bundle: What the devices run.
            settings: By device.
            batches: How many recorded batches each run of a device has: with the last one
                the device stops.
            recuts: Whether the images come in batches of `settings.batch`, not as recorded.
        """
        self.tally = Tally()
        self._cloud = cloud
        self._bundle = bundle
        self._settings = settings
        self._left = dict(batches)
        self._recuts = recuts
        self._running: dict[Run, VirtualDevice] = {}
        self._newest: dict[str, StoredVersion] = {}
        self._now_ns = 0

    def take(self, part: Part) -> None:
        """Answer one recorded batch, and let everything happen that follows from it."""
        self._now_ns = max(self._now_ns, part.time_ns)  # a recorder's clock may jump back
        self.tally.begin(self._now_ns)
        device = self._running.get(part.run) or self._start(part.run)
        for batch in device.cutter.add(part.batch()):
            self._answer(device, batch)
        self._left[part.run] -= 1
        if self._left[part.run] == 0:
            self._stop(part.run)

    def _start(self, run: Run) -> VirtualDevice:
        name, session = run
        settings = self._settings[name]
        cutter = Cutter(settings.batch if self._recuts else None)
        device = self._running[run] = VirtualDevice(settings, self._bundle, session, cutter)
        newest = self._newest.get(settings.cohort_name)
        if newest is not None:  # retained at the broker
            self._give(device, newest)
        self._say(device, Kind.STATE, device.state("ready", now_ns=self._now_ns))
        return device

    def _stop(self, run: Run) -> None:
        device = self._running[run]
        for batch in device.cutter.rest():
            self._answer(device, batch)
        del self._running[run]
        self._say(device, Kind.STATE, device.state("stopped", now_ns=self._now_ns))

    def _answer(self, device: VirtualDevice, batch: Batch) -> None:
        answer = device.answer(batch, now_ns=self._now_ns)
        self.tally.answer(answer.labels, batch.labels)
        if answer.swapped is not None:
            self.tally.applied += 1
            self.tally.lags_s.append(max(0, self._now_ns - answer.swapped.newest_sample_ns) / 1e9)
        self.tally.upload(sum(samples for _, samples in answer.uploads), self._now_ns)
        for payload, _ in answer.uploads:
            self.tally.bytes_up += self._say(device, Kind.SAMPLES, payload)

    def _say(self, device: VirtualDevice, kind: Kind, payload: bytes) -> int:
        """Hand a message to the cloud and its versions to the devices; the packet's bytes."""
        topic = device_topic(device.settings.group, device.settings.device, kind)
        for version in self._cloud.take(topic, payload, received_ns=self._now_ns):
            self.tally.made.append(made(version))
            self._newest[version.cohort] = version
            for running in self._running.values():
                if running.settings.cohort_name == version.cohort:
                    self._give(running, version)
        return publish_packet_size(topic, payload, ROUTES[kind].qos)

    def _give(self, device: VirtualDevice, version: StoredVersion) -> None:
        packet = head_packet(self._cloud, device.settings.device, version)
        if packet is None:
            self.tally.refused += 1
            return
        topic, payload = packet
        self.tally.bytes_down += publish_packet_size(topic, payload, ROUTES[Kind.HEAD].qos)
        if not device.take_head(payload, now_ns=self._now_ns):
            self.tally.refused += 1


def head_packet(
    cloud: VirtualCloud, device: str, version: StoredVersion
) -> tuple[str, bytes] | None:
    """Topic and payload with which a version comes to a device; None if it is too large."""
    reader = device if version.cohort == device else EVERYONE
    try:
        return encode_head(cloud.consumer, version, reader=reader)
    except TooLargeError:
        return None


def made(version: StoredVersion) -> Made:
    """A version as the results name it."""
    return Made(cohort=version.cohort, version=version.version, digest=version.result)
