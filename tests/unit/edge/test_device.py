"""What a device decides on acks, heads and its own full spool; no loops, no network."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests import tiny

from driftwell.broker.memory import MemoryBroker, MemoryConnection
from driftwell.edge.assembly import build_node
from driftwell.edge.device import Device
from driftwell.edge.filter import FilterSettings
from driftwell.edge.model import Model
from driftwell.edge.settings import EdgeSettings, UploadSettings
from driftwell.edge.sources import SourceBatch
from driftwell.edge.spool import Spool
from driftwell.edge.timing import Clocks
from driftwell.messages.ack import Refused
from driftwell.messages.codec import decode, encode
from driftwell.messages.head import Head
from driftwell.messages.samples import SampleBatch
from driftwell.models.bundle import Bundle

SETTINGS = EdgeSettings(
    bundle=Path("b"),
    source="npz:x",
    device="cam-1",
    statistics="delivered",
    filter=FilterSettings(e_max=1.0, e_min=0.0),
)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path, "cam-1")) as opened:
        yield opened


@pytest.fixture
def device(bundle: Bundle, spool: Spool) -> Device:
    return make_device(bundle, spool)


def make_device(
    bundle: Model, spool: Spool, settings: EdgeSettings = SETTINGS, session: str = tiny.SESSION
) -> Device:
    node = build_node(settings, bundle, tiny.Ticks())
    connection = MemoryConnection(broker=MemoryBroker(), client_id="cam-1", subscriptions=())
    return Device(
        settings, node=node, spool=spool, connection=connection, session=session,
        clocks=Clocks(lambda: tiny.NOW_NS, tiny.Ticks()), memory_bytes=1, software="test",
    )  # fmt: skip


def see(device: Device, count: int = 4) -> None:
    """Answer a batch of which every sample is selected."""
    images = tiny.make_images(count)
    predictions = device.node.infer(images)
    assert predictions.selected.all()
    batch = SourceBatch(images, np.arange(count, dtype=np.uint64), b"4")
    device.keep_selected(batch, predictions, position_name="position:npz:x")


def send_all(device: Device) -> list[SampleBatch]:
    sent = []
    while (message := device.next_message()) is not None:
        batch = decode(message[1])
        assert isinstance(batch, SampleBatch)
        sent.append(batch)
    return sent


def test_batches_are_numbered_as_they_are_sent(device: Device) -> None:
    """Each message carries session, seq and the oldest seq still held."""
    for _ in range(3):
        see(device)

    sent = send_all(device)

    assert [(b.seq, b.oldest_seq, b.session, b.count) for b in sent] == [
        (seq, 1, tiny.SESSION, 4) for seq in (1, 2, 3)
    ]
    assert device.spool.books() == {"seen": 12, "selected": 12, "spooled": 12}


def test_an_ack_settles_each_batch_under_its_fate(device: Device) -> None:
    """Refused batches are booked under their code, the others as acknowledged, the rest stays."""
    for _ in range(3):
        see(device)
    send_all(device)
    ack = msgspec.structs.replace(
        tiny.make_ack(2), refused=(Refused(seq=2, code="bad-array"),), version=5
    )

    device.take_ack(ack)
    device.take_ack(ack)

    books = device.spool.books()
    assert (books["acknowledged"], books["rejected:bad-array"], books["spooled"]) == (4, 4, 4)
    assert (device.settled_seq, device.cloud_version) == (2, 5)
    assert not device.has_caught_up
    device.take_ack(tiny.make_ack(3))
    assert device.has_caught_up


def test_another_sessions_ack_settles_its_own_only(bundle: Bundle, spool: Spool) -> None:
    """After a restart the old session's batch keeps its number and waits for its own ack."""
    first = make_device(bundle, spool)
    see(first)
    send_all(first)
    second = make_device(bundle, spool, session="f" * 16)
    see(second)

    sent = send_all(second)
    second.take_ack(tiny.make_ack(9, session="f" * 16))

    assert [(b.session, b.seq) for b in sent] == [(tiny.SESSION, 1), ("f" * 16, 1)]
    assert second.spool.books()["acknowledged"] == 4
    assert second.settled_seq == 9
    second.take_ack(tiny.make_ack(1))
    assert second.spool.books()["acknowledged"] == 8
    assert second.settled_seq == 9


def test_a_damaged_payload_is_dropped_and_booked(device: Device) -> None:
    """What cannot be decoded any more does not stop what comes after it."""
    see(device)
    see(device)
    device.spool._database.execute("UPDATE batches SET payload = x'00' WHERE id = 1")

    (sent,) = send_all(device)

    assert (sent.seq, sent.oldest_seq) == (2, 2)
    books = device.spool.books()
    assert (books["dropped:malformed"], books["spooled"]) == (4, 4)


def test_a_full_spool_drops_the_oldest_never_sent(bundle: Bundle, spool: Spool) -> None:
    """Selected equals spooled and dropped, whatever does not fit."""
    limits = msgspec.structs.replace(SETTINGS.spool, limit_bytes=100_000)
    device = make_device(bundle, spool, msgspec.structs.replace(SETTINGS, spool=limits))
    for _ in range(20):
        see(device, 200)

    books = device.spool.books()
    assert books["dropped:spool-full"] > 0
    assert books["selected"] == books["spooled"] + books["dropped:spool-full"] == 4000
    assert device.outbox.size_bytes <= 100_000


def refused(device: Device) -> dict[str, int]:
    return {n: c for n, c in device.counters.items() if n.startswith("refused:")}


def test_a_refused_head_is_counted_and_reported(device: Device, bundle: Bundle) -> None:
    """The report names version and code; nothing is remembered of it."""
    head = tiny.make_head(tiny.make_manifest(bundle, version=7, cohort="cam-2"))

    device.heads.take(head, encode(head))

    assert refused(device) == {"refused:wrong-cohort": 1}
    (report,) = device.reports
    assert (report.event, report.version, report.code) == ("refused", 7, "wrong-cohort")
    assert device.heads.decided == {0: 7}
    assert device.spool.recall("head") is None


def test_the_first_key_is_trusted_and_no_other(device: Device, bundle: Bundle) -> None:
    """Without `trust` the first head's key counts from then on."""
    first = tiny.make_head(tiny.make_manifest(bundle, version=1))
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    forged = tiny.make_head(tiny.make_manifest(bundle, version=2), key=other)

    device.heads.take(first, encode(first))
    device.heads.take(forged, encode(forged))

    assert refused(device) == {"refused:untrusted-key": 1}
    assert device.node.incumbent.version == 1


def test_a_version_is_there_again_after_a_restart(
    device: Device, bundle: Bundle, spool: Spool
) -> None:
    """The head kept on disk is verified and applied without a broker; damaged, it is forgotten."""
    head: Head = tiny.make_head(tiny.make_manifest(bundle, version=4))
    device.heads.take(head, encode(head))

    again = make_device(bundle, spool)
    again.restore()
    assert again.node.incumbent.version == 4

    spool.remember("head", b"damaged")
    broken = make_device(bundle, spool)
    broken.restore()
    assert broken.node.incumbent.version == 0
    assert spool.recall("head") is None


def test_the_quality_of_uploads_is_a_setting(bundle: Bundle, spool: Spool) -> None:
    """With `upload.quality` selected images travel as JPEG; they are booked as ever."""
    settings = msgspec.structs.replace(SETTINGS, upload=UploadSettings(quality=1))
    device = make_device(bundle, spool, settings)
    see(device, 16)

    sent = send_all(device)

    assert [(batch.images.encoding, batch.count) for batch in sent] == [("jpeg", 16)]
