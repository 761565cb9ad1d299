"""Devices and their cloud in virtual time, and between them nothing but a link of one's choice.

A batch comes at its time. What the device uploads is learned from at once, and the versions
are with every device of the cohort before its next batch, or some batches later if the link
is slow. A live run in lockstep goes just as with a perfect link, so that the same settings
give the same versions.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from driftwell.broker.connection import publish_packet_size
from driftwell.cloud.heads import encode_head
from driftwell.cloud.placement import Stay
from driftwell.cloud.tables import StoredVersion
from driftwell.cloud.virtual import VirtualCloud
from driftwell.edge.settings import EdgeSettings
from driftwell.messages.errors import TooLargeError
from driftwell.messages.names import EVERYONE, split_domain
from driftwell.messages.topics import ROUTES, Kind, device_topic
from driftwell.models.bundle import Bundle
from driftwell.recording.batches import Batch, Cutter
from driftwell.tools.virtual.device import VirtualDevice
from driftwell.tools.virtual.link import Link, LinkSettings
from driftwell.tools.virtual.part import Part, Run
from driftwell.tools.virtual.tally import Made, Tally

PERFECT = LinkSettings()


class _Running:
    """A device that runs, and its link."""

    def __init__(self, device: VirtualDevice, link: Link, cutter: Cutter) -> None:
        self.device = device
        self.link = link
        self.cutter = cutter
        self.answered = 0


class Rig:
    """Every device of a run, and the cloud they share."""

    def __init__(
        self,
        cloud: VirtualCloud,
        bundle: Bundle,
        settings: Mapping[str, EdgeSettings],
        batches: Mapping[Run, int],
        *,
        recuts: bool,
        link: LinkSettings = PERFECT,
        monotonic_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Set it up.

        Args:
            cloud: Learns.
            bundle: What the devices run.
            settings: By device.
            batches: How many batches each run of a device is given: with the last one the
                device stops.
            recuts: Whether the images come in batches of `settings.batch`, not as given.
            link: Between each device and the cloud.
            monotonic_s: Measures the devices' forward passes; nothing is decided by it.
        """
        self.tally = Tally()
        self._cloud = cloud
        self._bundle = bundle
        self._settings = settings
        self._left = dict(batches)
        self._recuts = recuts
        self._link = link
        self._monotonic_s = monotonic_s
        self._generator = np.random.default_rng(link.seed)
        self._running: dict[Run, _Running] = {}
        self._newest: dict[str, StoredVersion] = {}
        self._now_ns = 0

    def take(self, part: Part) -> NDArray[np.int64]:
        """Have one batch answered, and let everything happen that follows from it.

        Returns:
            (N,): the classes the device answered with just now, in the order of its images;
            with `recuts` there may be none yet, or those of earlier parts too.
        """
        self._now_ns = max(self._now_ns, part.time_ns)  # a recorder's clock may jump back
        self.tally.begin(self._now_ns)
        running = self._running.get(part.run) or self._start(part.run)
        answers = [self._answer(running, batch) for batch in running.cutter.add(part.batch())]
        self._left[part.run] -= 1
        if self._left[part.run] == 0:
            answers += self._stop(part.run)
        return np.concatenate([np.zeros(0, np.int64), *answers])

    def _start(self, run: Run) -> _Running:
        name, session = run
        settings = self._settings[name]
        device = VirtualDevice(settings, self._bundle, session, self._monotonic_s)
        running = self._running[run] = _Running(
            device,
            Link(self._link, self._generator),
            Cutter(settings.batch if self._recuts else None),
        )
        for newest in self._newest.values():  # retained at the broker
            if device.listens_to(newest.cohort):
                running.link.send(newest, answered=0)
        self._give_arrived(running)
        self._say(device, Kind.STATE, device.state("ready", now_ns=self._now_ns))
        return running

    def _stop(self, run: Run) -> list[NDArray[np.int64]]:
        running = self._running[run]
        answers = [self._answer(running, batch) for batch in running.cutter.rest()]
        self._upload_all(running, running.device.rest(now_ns=self._now_ns))
        del self._running[run]
        device = running.device
        self._say(device, Kind.STATE, device.state("stopped", now_ns=self._now_ns))
        return answers

    def _answer(self, running: _Running, batch: Batch) -> NDArray[np.int64]:
        device = running.device
        self._give_arrived(running)
        answer = device.answer(batch, now_ns=self._now_ns)
        running.answered += 1
        self.tally.answer(answer.labels, batch.labels)
        self.tally.forward_s += answer.forward_s
        if answer.swapped is not None:
            self.tally.applied += 1
            self.tally.lags_s.append(max(0, self._now_ns - answer.swapped.newest_sample_ns) / 1e9)
        self._upload_all(running, answer.uploads)
        return answer.labels

    def _upload_all(self, running: _Running, uploads: Sequence[tuple[bytes, int]]) -> None:
        self.tally.upload(sum(samples for _, samples in uploads), self._now_ns)
        for payload, _ in uploads:
            self._upload(running, payload)

    def _upload(self, running: _Running, payload: bytes) -> None:
        """Send a sample batch; a lost one was sent all the same, and its bytes count."""
        device = running.device
        topic = device_topic(device.settings.group, device.settings.device, Kind.SAMPLES)
        self.tally.bytes_up += publish_packet_size(topic, payload, ROUTES[Kind.SAMPLES].qos)
        if running.link.is_lost():
            self.tally.lost_up += 1
        else:
            self._say(device, Kind.SAMPLES, payload)

    def _say(self, device: VirtualDevice, kind: Kind, payload: bytes) -> None:
        """Hand a message to the cloud, and its versions to the links of the devices."""
        topic = device_topic(device.settings.group, device.settings.device, kind)
        versions = self._cloud.take(topic, payload, received_ns=self._now_ns)
        self._tell_place(device)
        for version in versions:
            self.tally.made.append(made(version))
            self._newest[version.cohort] = version
            for running in self._running.values():
                if running.device.listens_to(version.cohort):
                    running.link.send(version, answered=running.answered)
                    self._give_arrived(running)

    def _tell_place(self, device: VirtualDevice) -> None:
        """What an ack says of the domain; a lost one is made good by the next."""
        name = device.settings.device
        place = self._cloud.consumer.cohorts.placement.told(name, device.session)
        running = self._running.get((name, device.session))
        if place is not None and running is not None:
            running.link.send(place, answered=running.answered)
            self._give_arrived(running)

    def _give_arrived(self, running: _Running) -> None:
        for sent in running.link.arrived(answered=running.answered):
            if isinstance(sent, Stay):
                running.device.node.take_place(drifts=sent.drifts, domain=sent.domain)
            else:
                self._give(running, sent)

    def _give(self, running: _Running, version: StoredVersion) -> None:
        device = running.device
        packet = head_packet(self._cloud, device.settings.device, version)
        if packet is None:
            self.tally.refused += 1
            return
        topic, payload = packet
        self.tally.bytes_down += publish_packet_size(topic, payload, ROUTES[Kind.HEAD].qos)
        if running.link.is_lost():
            self.tally.lost_down += 1
        elif not device.take_head(payload, now_ns=self._now_ns):
            self.tally.refused += 1


def head_packet(
    cloud: VirtualCloud, device: str, version: StoredVersion
) -> tuple[str, bytes] | None:
    """Topic and payload with which a version comes to a device; None if it is too large."""
    reader = device if split_domain(version.cohort)[0] == device else EVERYONE
    try:
        return encode_head(cloud.consumer, version, reader=reader)
    except TooLargeError:
        return None


def made(version: StoredVersion) -> Made:
    """A version as the results name it."""
    return Made(cohort=version.cohort, version=version.version, digest=version.result)
