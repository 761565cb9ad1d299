"""What a device keeps over a restart besides its samples: its budget, and how often it drifted."""

from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
from tests import tiny
from tests.unit.edge.test_device import SETTINGS, make_device

from driftwell.edge.budget import BudgetSettings
from driftwell.edge.device import Device
from driftwell.edge.drift import DriftSettings
from driftwell.edge.heads import DOMAINS, LAST_HEAD
from driftwell.edge.settings import UploadSettings
from driftwell.edge.sources import SourceBatch
from driftwell.edge.spool import Spool, forget_names
from driftwell.messages.codec import decode, encode
from driftwell.messages.images import Pixels
from driftwell.messages.samples import SampleBatch
from driftwell.models.bundle import Bundle

LIMIT = 20_000
BUDGETED = msgspec.structs.replace(SETTINGS, budget=BudgetSettings(bytes_total=LIMIT))


def see(device: Device, images: Pixels, position: bytes = b"4") -> None:
    predictions = device.node.infer(images, rate=device.budget.rate)
    device.record(predictions, 0.0)
    batch = SourceBatch(images, np.arange(len(images), dtype=np.uint64), position)
    device.keep_selected(batch, predictions, position_name="position:npz:x")


def sizes(device: Device) -> list[int]:
    """Of the sample batches in the spool, as they are sent."""
    sent = []
    while (message := device.next_message()) is not None:
        sent.append(len(message[1]))
    return sent


def test_the_budget_holds_over_a_restart(bundle: Bundle, tmp_path: Path) -> None:
    """Not one byte over in both lives together; what did not fit is booked.

    Nothing is acknowledged, so the second life has the first one's batches to send, too.
    """
    for session in ("1" * 16, "2" * 16):
        with closing(Spool(tmp_path, "cam-1")) as spool:
            device = make_device(bundle, spool, BUDGETED, session)
            for seed in range(4):
                see(device, tiny.make_images(64, seed))
            sent = sizes(device)
            books = spool.books()

    assert 0 < sum(sent) <= LIMIT
    assert books["dropped:over-budget"] > 0
    assert books["selected"] == books["spooled"] + books["dropped:over-budget"]


def test_a_drift_is_told_and_counted_over_a_restart(bundle: Bundle, tmp_path: Path) -> None:
    """An event, a counter, the domain in the sample batches, and the number after a restart."""
    settings = msgspec.structs.replace(SETTINGS, statistics="own", drift=DriftSettings())
    with closing(Spool(tmp_path, "cam-1")) as spool:
        device = make_device(bundle, spool, settings)
        for seed in range(12):
            see(device, tiny.make_images(64, seed))
        for seed in range(12, 16):
            see(device, tiny.make_images(64, seed) // 8)
        messages = []
        while (message := device.next_message()) is not None:
            messages.append(decode(message[1], limit_bytes=100_000))

    batches = [m for m in messages if isinstance(m, SampleBatch)]
    drifts = [0 if isinstance(m.drifts, msgspec.UnsetType) else m.drifts for m in batches]
    assert drifts == sorted(drifts)
    assert set(drifts) == {0, 1}
    assert all(isinstance(m.domain, msgspec.UnsetType) for m in batches), "nobody has said it"
    assert all(not isinstance(m.signature, msgspec.UnsetType) for m in batches)
    assert [report.event for report in device.reports] == ["drift"]
    assert device.counters["drifts"] == 1
    with closing(Spool(tmp_path, "cam-1")) as spool:
        again = make_device(bundle, spool, settings)
        again.restore()
        assert (again.node.domains.drifts, again.node.domains.domain) == (1, None)


def test_the_known_domains_are_there_after_a_restart(bundle: Bundle, tmp_path: Path) -> None:
    """Their heads, and where the device was; `edge forget` drops all of it."""
    settings = msgspec.structs.replace(SETTINGS, statistics="own", drift=DriftSettings())
    with closing(Spool(tmp_path, "cam-1")) as spool:
        device = make_device(bundle, spool, settings)
        for version, cohort in ((4, "cam-1"), (2, "cam-1/1")):
            head = tiny.make_head(tiny.make_manifest(bundle, version=version, cohort=cohort))
            device.heads.take(head, encode(head))
        ack = msgspec.structs.replace(tiny.make_ack(0), drifts=0, domain=1, version=2)
        device.take_ack(ack)
        assert device.heads.decided == {0: 4, 1: 2}
        assert device.has_caught_up
        see(device, tiny.make_images(64))

    with closing(Spool(tmp_path, "cam-1")) as spool:
        again = make_device(bundle, spool, settings)
        again.restore()
        assert again.node.domains.bank.known == {0, 1}
        assert (again.node.domains.domain, again.node.incumbent.version) == (1, 2)

    forget_names(tmp_path, DOMAINS, LAST_HEAD)
    with closing(Spool(tmp_path, "cam-1")) as spool:
        blank = make_device(bundle, spool, settings)
        blank.restore()
        assert (blank.node.domains.bank.known, blank.node.incumbent.version) == (frozenset(), 0)


def test_what_is_gathered_is_seen_again_after_a_kill(bundle: Bundle, tmp_path: Path) -> None:
    """Counts, position and samples are of the same batches at any time: none lost, none twice."""
    settings = msgspec.structs.replace(SETTINGS, upload=UploadSettings(gather=16))
    kept = []
    for life in ("1" * 16, "2" * 16):
        with closing(Spool(tmp_path, "cam-1")) as spool:
            device = make_device(bundle, spool, settings, life)
            first = int(spool.recall("position:npz:x") or b"0")
            for number in range(first, first + 6):  # and then it is killed
                see(device, tiny.make_images(4, number), position=b"%d" % (number + 1))
            kept.append((spool.recall("position:npz:x"), spool.books()))

    books = {"seen": 16, "selected": 16, "spooled": 16}
    assert kept == [(b"4", books), (b"8", {fate: 2 * count for fate, count in books.items()})]


def test_an_orderly_end_keeps_what_is_gathered(bundle: Bundle, tmp_path: Path) -> None:
    """Once, with the position behind it; a device that has gathered nothing writes nothing."""
    settings = msgspec.structs.replace(SETTINGS, upload=UploadSettings(gather=16))
    with closing(Spool(tmp_path, "cam-1")) as spool:
        device = make_device(bundle, spool, settings)
        device.keep_rest()
        assert spool.books() == {"spooled": 0}
        for number in range(3):
            see(device, tiny.make_images(4, number), position=b"%d" % (number + 1))
        for _ in range(2):
            device.keep_rest()

        assert spool.recall("position:npz:x") == b"3"
        assert spool.books() == {"seen": 12, "selected": 12, "spooled": 12}
        assert len(sizes(device)) == 1
