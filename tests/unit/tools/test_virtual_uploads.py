"""A device in virtual time packs its uploads as a real one does."""

from pathlib import Path

import numpy as np
import pytest
from tests import tiny

from driftwell.edge.filter import FilterSettings
from driftwell.edge.settings import EdgeSettings, UploadSettings
from driftwell.messages.codec import decode
from driftwell.messages.samples import SampleBatch
from driftwell.recording.batches import Batch
from driftwell.tools.virtual.device import VirtualDevice


@pytest.mark.parametrize(("quality", "encoding"), [(None, "raw"), (1, "jpeg")])
def test_the_quality_of_uploads_counts(tmp_path: Path, quality: int | None, encoding: str) -> None:
    """What the setting says of the images' encoding is what a repeated run sends."""
    bundle = tiny.make_bundle(tmp_path, "edge")
    settings = EdgeSettings(
        bundle=bundle.path, source="npz:x", device="cam-1", statistics="delivered",
        filter=FilterSettings(e_max=1.0, e_min=0.0), upload=UploadSettings(quality=quality),
    )  # fmt: skip
    device = VirtualDevice(settings, bundle, tiny.SESSION)
    batch = Batch(tiny.make_images(16), np.arange(16, dtype=np.uint64), np.zeros(16, np.int64))

    ((payload, samples),) = device.answer(batch, now_ns=tiny.NOW_NS).uploads

    message = decode(payload)
    assert isinstance(message, SampleBatch)
    assert (message.images.encoding, samples) == (encoding, 16)


def test_single_images_are_gathered(tmp_path: Path) -> None:
    """As on a real device: so many share a message, and the rest goes when the device stops."""
    bundle = tiny.make_bundle(tmp_path, "edge")
    settings = EdgeSettings(
        bundle=bundle.path, source="npz:x", device="cam-1", statistics="delivered",
        filter=FilterSettings(e_max=1.0, e_min=0.0), upload=UploadSettings(gather=4),
    )  # fmt: skip
    device = VirtualDevice(settings, bundle, tiny.SESSION)
    made = []
    for number in range(6):
        batch = Batch(tiny.make_images(1, number), np.array([number], np.uint64), np.zeros(1, int))
        made.append(device.answer(batch, now_ns=tiny.NOW_NS).uploads)
    rest = device.rest(now_ns=tiny.NOW_NS)

    assert [[samples for _, samples in uploads] for uploads in [*made, rest]] == [
        [], [], [], [4], [], [], [2],
    ]  # fmt: skip
    messages = [decode(payload) for payload, _ in [*made[3], *rest]]
    assert [message.seq for message in messages if isinstance(message, SampleBatch)] == [1, 2]
