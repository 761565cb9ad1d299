from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests import tiny
from tests.unit.recording.recorded import START_NS, message, write_recording
from tests.unit.recording.streams import stream

from driftwell.messages.codec import decode, encode
from driftwell.messages.errors import RecordingError
from driftwell.messages.stream import StreamBatch
from driftwell.messages.topics import Kind, device_topic
from driftwell.recording.form import MAX_MESSAGE, RecordedMessage
from driftwell.recording.reader import Recording
from driftwell.recording.streams import (
    Sender,
    StreamMessage,
    choose_sender,
    list_senders,
    read_streams,
)

IMAGES = tiny.make_images(12)


def _read(
    folder: Path, messages: Sequence[RecordedMessage], devices: set[str] | None = None
) -> list[StreamMessage]:
    with Recording(write_recording(folder / "a.mcap", messages)) as recording:
        return list(read_streams(recording, devices))


def test_each_message_is_whole(tmp_path: Path) -> None:
    """Whose it is, when it was recorded, images, answers, and a label or -1 for each image."""
    first, second = _read(
        tmp_path, [stream(1, IMAGES[:3]), message(Kind.ACK), stream(2, IMAGES[3:5], [1, 0])]
    )

    assert (first.group, first.device, first.session) == ("home", "cam-1", tiny.SESSION)
    assert (second.version, second.count, second.received_ns) == (2, 2, START_NS + 2)
    np.testing.assert_array_equal(second.images, IMAGES[3:5])
    assert second.columns["index"].tolist() == [20, 21]
    assert first.labels.dtype == np.dtype(np.int64)
    assert first.labels.tolist() == [-1, -1, -1]
    assert second.labels.tolist() == [1, 0]


def test_a_message_that_comes_again_is_taken_once(tmp_path: Path) -> None:
    """A session counts its messages; the same number of another session is another message."""
    again = [stream(1, IMAGES[:2]), stream(2, IMAGES[2:4]), stream(1, IMAGES[:2])]
    other = stream(1, IMAGES[4:6], session="f" * 16)

    found = _read(tmp_path, [*again, other])

    assert [(one.session[0], one.batch.seq) for one in found] == [
        (tiny.SESSION[0], 1), (tiny.SESSION[0], 2), ("f", 1),
    ]  # fmt: skip


def _with_images_cut(one: RecordedMessage) -> RecordedMessage:
    batch = decode(one.payload, limit_bytes=MAX_MESSAGE)
    assert isinstance(batch, StreamBatch)
    images = msgspec.structs.replace(batch.images, encoding="raw", data=b"x")
    return replace(one, payload=encode(msgspec.structs.replace(batch, images=images)))


BAD = {
    "cut": replace(stream(1, IMAGES[:2]), payload=stream(1, IMAGES[:2]).payload[:-9]),
    "another device": replace(
        stream(1, IMAGES[:2], device="cam-2"), topic=device_topic("home", "cam-1", Kind.STREAM)
    ),
    "another kind": message(Kind.STREAM, device="cam-7", payload=message(Kind.ACK).payload),
    "images": _with_images_cut(stream(1, IMAGES[:2])),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_message_that_cannot_be_used_names_the_recording(
    tmp_path: Path, bad: RecordedMessage
) -> None:
    """Cut short, on another's topic, of another kind, or with images that do not unpack."""
    with pytest.raises(RecordingError, match=r"a\.mcap: .* of driftwell/.*/stream cannot be used"):
        _ = [one.images for one in _read(tmp_path, [bad])]


def test_messages_that_cannot_be_used_may_be_left_out(tmp_path: Path) -> None:
    """Whoever wants the rest is told of each; a whole copy that comes later is still taken."""
    path = write_recording(tmp_path / "a.mcap", [*BAD.values(), stream(1, IMAGES[:2])])
    told: list[RecordingError] = []

    with Recording(path) as recording:
        found = list(read_streams(recording, damaged=told.append))

    assert len(told) == len(BAD)
    assert [one.images.tolist() for one in found] == [IMAGES[:2].tolist()]


TWO_GROUPS = [
    stream(1, IMAGES[:2], group="home"), stream(1, IMAGES[2:4], group="shed"),
    stream(1, IMAGES[4:6], group="shed", device="cam-2"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("devices", "counted"),
    [(None, 3), ({"cam-1"}, 2), ({"shed/cam-1"}, 1), ({"shed/cam-1", "cam-2"}, 2), ({"cam"}, 0)],
)
def test_devices_are_chosen_with_their_group_or_without(
    tmp_path: Path, devices: set[str] | None, counted: int
) -> None:
    """Equal names of two groups are two devices, and equal numbers of theirs two messages."""
    assert len(_read(tmp_path, TWO_GROUPS, devices)) == counted


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [("cam-2", Sender("shed", "cam-2")), ("home/cam-1", Sender("home", "cam-1"))],
)
def test_one_device_is_chosen(tmp_path: Path, wanted: str, chosen: Sender) -> None:
    """By its name where that is enough, else with its group before it."""
    with Recording(write_recording(tmp_path / "a.mcap", TWO_GROUPS)) as recording:
        senders = list_senders(recording)

    assert choose_sender(tmp_path, senders, wanted, how="#NAME") == chosen


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (None, "home/cam-1, shed/cam-1, shed/cam-2: choose one, #NAME"),
        ("cam-1", "images of home/cam-1, shed/cam-1: choose one"),
        ("home/cam-2", "no images of 'home/cam-2'; it has home/cam-1, shed/cam-1, shed/cam-2"),
    ],
)
def test_what_is_not_clear_is_asked(wanted: str | None, said: str) -> None:
    """The error lists the devices that there are, with their groups if these differ."""
    senders = [Sender("shed", "cam-2"), Sender("shed", "cam-1"), Sender("home", "cam-1")]

    with pytest.raises(RecordingError, match=said):
        choose_sender(Path("a.mcap"), senders, wanted, how="#NAME")
