"""What a what-if reads of a recording: chosen devices, groups, versions in one order."""

from pathlib import Path

import msgspec
import pytest
from tests import tiny
from tests.unit.recording.recorded import START_NS, payload_of, write_recording
from tests.unit.recording.streams import stream

from driftwell.messages.codec import decode
from driftwell.messages.errors import RecordingError
from driftwell.messages.names import EVERYONE
from driftwell.messages.topics import Kind, cohort_head_topic
from driftwell.recording.form import RecordedMessage
from driftwell.tools.whatif.streams import Choice, read_parts
from driftwell.tools.whatif.survey import _Live, survey_recording

IMAGES = tiny.make_images(4)
TWO_GROUPS = [
    stream(1, IMAGES[:2], group="home"), stream(1, IMAGES[2:], group="shed"),
    stream(2, IMAGES[2:], group="shed"), stream(2, IMAGES[2:], group="shed"),
]  # fmt: skip


def test_devices_of_one_name_are_told_apart_by_their_group(tmp_path: Path) -> None:
    """One of them is run again, never both as one; a batch that comes again counts once."""
    path = write_recording(tmp_path / "a.mcap", TWO_GROUPS)

    with pytest.raises(RecordingError, match=r"home, shed; .*--device GROUP/DEVICE"):
        survey_recording(Choice(path, ("cam-1",)))
    survey = survey_recording(Choice(path, ("shed/cam-1",)))

    assert (survey.group, survey.batches) == ("shed", {("cam-1", tiny.SESSION): 2})
    assert survey.live.result.n == 4


@pytest.mark.parametrize(("group", "is_counted"), [("shed", True), ("home", False)])
def test_versions_of_another_group_do_not_count(
    tmp_path: Path, group: str, is_counted: bool
) -> None:
    """Two groups may have a cohort of one name too."""
    head = decode(payload_of(Kind.HEAD))
    payload = msgspec.msgpack.encode(msgspec.structs.replace(head, device=EVERYONE))
    version = RecordedMessage(cohort_head_topic(group, "yard"), payload, START_NS, 1)
    path = write_recording(tmp_path / "a.mcap", [*TWO_GROUPS, version])

    survey = survey_recording(Choice(path, ("shed/cam-1",)))

    assert bool(survey.live.result.bytes_down) == is_counted


def test_a_limit_counts_images_of_each_device(tmp_path: Path) -> None:
    """Also where two groups have a device of one name."""
    path = write_recording(tmp_path / "a.mcap", TWO_GROUPS)

    parts = [(one.stream.group, one.count) for one in read_parts(Choice(path, limit=3))]

    assert parts == [("home", 2), ("shed", 2), ("shed", 1)]


def test_versions_of_one_number_are_in_one_order() -> None:
    """Two clouds may have made a version of one number; a report says the same each time."""
    live = _Live(Choice(Path("a.mcap")), "home")
    digests = [f"{number:064}" for number in range(30)]
    live._made = {("yard", 1, digest) for digest in digests}
    live._heard = {"head"}

    assert [one.digest for one in live.outcome().result.made] == digests
