"""Devices and a cloud in virtual time: cohorts, restarts, births and ends."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests import tiny

from driftwell.cloud.settings import CloudSettings, MethodSettings, method_document
from driftwell.cloud.virtual import open_virtual_cloud
from driftwell.edge.filter import FilterSettings
from driftwell.edge.settings import EdgeSettings
from driftwell.messages.errors import RecordingError
from driftwell.messages.images import pack_images
from driftwell.messages.stream import StreamBatch, pack_stream_columns
from driftwell.models.bundle import Bundle
from driftwell.recording.streams import StreamMessage
from driftwell.tools.virtual.rig import Rig
from driftwell.tools.virtual.tally import Tally
from driftwell.tools.whatif.streams import Part
from driftwell.tools.whatif.variant_run import _fates

BATCH = 16
SECOND_NS = 10**9
ALL = FilterSettings(e_max=1.0, e_min=0.0)
NONE = FilterSettings(e_max=0.001, e_min=0.0)


@dataclass
class Bundles:
    edge: Bundle
    foundation: Bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """The two tiny bundles."""
    folder = tmp_path_factory.mktemp("bundles")
    return Bundles(tiny.make_bundle(folder, "edge"), tiny.make_bundle(folder, "foundation"))


def part(
    bundles: Bundles, at_s: int, *, device: str = "cam-1", session: str = tiny.SESSION,
    labelled: bool = True, count: int = BATCH,
) -> Part:  # fmt: skip
    """A recorded batch of `BATCH` images, `at_s` seconds into the recording."""
    zeros = np.zeros(BATCH, np.uint16)
    message = StreamBatch(
        device=device, session=session, seq=at_s, clock_ns=1, model=bundles.edge.digest,
        cohort=device, version=0, images=pack_images(tiny.make_images(BATCH, seed=at_s)),
        columns=pack_stream_columns(
            np.arange(BATCH, dtype=np.uint64), zeros, zeros.astype(np.float32),
            zeros.astype(np.uint8), zeros if labelled else None,
        ),
    )  # fmt: skip
    time_ns = tiny.NOW_NS + at_s * SECOND_NS
    topic = f"driftwell/v1/default/{device}/stream"
    return Part(StreamMessage(Path("a.mcap"), topic, "default", message, time_ns), count)


def run(
    bundles: Bundles, folder: Path, parts: Sequence[Part], *, cohort: str | None = None,
    filter_: FilterSettings = ALL, policy_batch: int = BATCH,
) -> tuple[Tally, dict[str, int]]:  # fmt: skip
    """Run the parts; the tally, and what became of the uploads."""
    document = method_document("cema")
    document["policy"] = {"batch": policy_batch, "minimum_batch": 2}
    cloud_settings = CloudSettings(
        foundation=bundles.foundation.path, edge=bundles.edge.path,
        method=msgspec.convert(document, MethodSettings),
    )  # fmt: skip
    names = {one.message.device for one in parts}
    settings = {
        name: EdgeSettings(bundle=bundles.edge.path, source="npz:x", device=name, cohort=cohort,
                           filter=filter_, batch=BATCH)
        for name in names
    }  # fmt: skip
    with open_virtual_cloud(
        cloud_settings, folder, edge=bundles.edge, foundation=bundles.foundation,
        monotonic_s=time.monotonic,
    ) as cloud:  # fmt: skip
        counts = Counter(one.run for one in parts)
        rig = Rig(cloud, bundles.edge, settings, counts, recuts=False)
        for one in parts:
            rig.take(one)
        return rig.tally, _fates(cloud)


def test_a_version_answers_the_batch_after_the_one_it_learned_from(
    bundles: Bundles, tmp_path: Path
) -> None:
    """So the lag is the recorded time between two batches, and the last version comes too late."""
    tally, fates = run(bundles, tmp_path, [part(bundles, at_s) for at_s in (0, 3, 6)])

    assert [version.version for version in tally.made] == [1, 2, 3]
    assert (tally.applied, tally.refused, tally.lags_s) == (2, 0, [3.0, 3.0])
    assert (tally.n, tally.uploads) == (48, 48)
    assert fates == {"diverged": 0, "expired": 0, "rejected": 0, "waiting": 0}


def test_what_is_left_is_learned_from_when_the_device_stops(
    bundles: Bundles, tmp_path: Path
) -> None:
    """Two batches of 16 are a step of 24 and a rest of 8, which is large enough for one more."""
    tally, fates = run(
        bundles, tmp_path, [part(bundles, 0), part(bundles, 1)], policy_batch=24
    )  # fmt: skip

    assert len(tally.made) == 2
    assert fates["waiting"] == 0


def test_devices_of_a_cohort_share_every_version(bundles: Bundles, tmp_path: Path) -> None:
    """Each learns from what the other saw, and each packet counts once for each of them."""
    parts = [part(bundles, at_s, device=f"cam-{1 + at_s % 2}") for at_s in range(4)]

    alone, _ = run(bundles, tmp_path / "alone", parts)
    shared, _ = run(bundles, tmp_path / "shared", parts, cohort="yard")

    # Alone, what a device's last batch led to comes too late; shared, only the very last version.
    assert (alone.applied, shared.applied) == (2, 3)
    assert {version.cohort for version in alone.made} == {"cam-1", "cam-2"}
    assert [(v.cohort, v.version) for v in shared.made] == [("yard", n) for n in (1, 2, 3, 4)]
    # Alone, a packet a version. Shared, cam-2 gets the first one when it comes, both get the
    # second and the third, and cam-1 is gone for the last: seven in all.
    assert shared.bytes_down == pytest.approx(alone.bytes_down / 4 * 7, rel=0.05)


def test_a_device_that_comes_back_goes_on_with_its_version(
    bundles: Bundles, tmp_path: Path
) -> None:
    """A new session begins with what the cohort has learned, not with the source."""
    parts = [part(bundles, 0, session="a" * 16), part(bundles, 9, session="b" * 16)]

    tally, _ = run(bundles, tmp_path, parts)

    assert (tally.applied, tally.lags_s) == (1, [9.0])


def test_nothing_selected_is_nothing_sent(bundles: Bundles, tmp_path: Path) -> None:
    """No upload, no version, no byte."""
    tally, fates = run(bundles, tmp_path, [part(bundles, 0), part(bundles, 1)], filter_=NONE)

    assert (tally.uploads, tally.bytes_up, tally.bytes_down, tally.made) == (0, 0, 0, [])
    assert tally.n == 32
    assert not any(fates.values())


def test_a_clock_that_jumps_back_takes_no_time_away(bundles: Bundles, tmp_path: Path) -> None:
    """The order of a recording is the order in the file."""
    tally, _ = run(bundles, tmp_path, [part(bundles, at_s) for at_s in (5, 2, 8)])

    assert tally.lags_s == [0.0, 3.0]


def test_a_part_may_be_less_than_a_batch(bundles: Bundles, tmp_path: Path) -> None:
    """As many of its images as were wanted."""
    tally, _ = run(bundles, tmp_path, [part(bundles, 0, count=5)])

    assert (tally.n, len(tally.correct)) == (5, 5)


def test_images_that_do_not_unpack_name_the_recording(bundles: Bundles) -> None:
    """And the way out."""
    good = part(bundles, 0)
    images = msgspec.structs.replace(good.message.images, data=b"x", encoding="raw")
    message = replace(good.stream, batch=msgspec.structs.replace(good.message, images=images))

    with pytest.raises(RecordingError, match=r"a\.mcap: message 0 of .*leave its device out"):
        Part(message, BATCH).batch()
