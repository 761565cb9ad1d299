import json
from pathlib import Path
from typing import Any

import pytest
from mcap.reader import make_reader
from tests.unit.recording.recorded import TYPED, message, payload_of, write_recording

from driftwell.edge.filter import Verdict
from driftwell.messages.topics import Kind
from driftwell.recording.form import view_form
from driftwell.recording.view import SELECTED, VIEWS, View, view_of

PLAIN = {"boolean", "integer", "number", "string"}
WITH_VIEW = sorted(set(TYPED) - {Kind.BLOB, Kind.FETCH, Kind.SUBMODEL, Kind.UPDATE})


def _view(kind: Kind) -> dict[str, Any]:
    found = view_of(kind, payload_of(kind))
    assert found is not None
    document: dict[str, Any] = json.loads(found[1])
    return document


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_schema_is_flat(view: type[View]) -> None:
    """Programs that draw understand plain fields only: no references, no choice of types."""
    form = view_form(view)
    schema = json.loads(form.schema)

    assert form.encoding == "json"
    assert {field["type"] for field in schema["properties"].values()} <= PLAIN
    assert "$ref" not in form.schema.decode()
    assert set(schema["required"]) <= set(schema["properties"])


@pytest.mark.parametrize("kind", WITH_VIEW)
def test_view_keeps_its_schema(kind: Kind) -> None:
    """What a view holds is what its schema says, and everything in it is plain."""
    found = view_of(kind, payload_of(kind))
    assert found is not None
    schema = json.loads(view_form(found[0]).schema)
    document = json.loads(found[1])

    assert set(schema["required"]) <= set(document) <= set(schema["properties"])
    assert {type(value) for value in document.values()} <= {bool, int, float, str}


def test_stream_view() -> None:
    """Of a labelled batch the view says how much was right and how much was selected."""
    view = _view(Kind.STREAM)

    assert (view["count"], view["accuracy"], view["selected_share"]) == (2, 0.5, 0.5)
    assert view["entropy_mean_nats"] == pytest.approx(0.875)


def test_head_view() -> None:
    """Of a version the view says which it is and from how many samples."""
    view = _view(Kind.HEAD)

    assert view["version"] == 13
    assert view["trained_samples"] > 0


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Kind.STATE, b"\xc1"),
        (Kind.STATE, b""),
        (Kind.STATE, payload_of(Kind.ACK)),
        (Kind.UPDATE, payload_of(Kind.UPDATE)),
        (Kind.PREDICTIONS, b"{}"),
        (None, payload_of(Kind.ACK)),
    ],
)
def test_no_view(kind: Kind | None, payload: bytes) -> None:
    """What does not decode, or is not what its topic says, has no view."""
    assert view_of(kind, payload) is None


def test_views_in_a_file(tmp_path: Path) -> None:
    """A view stands on its own channel, with the clocks of its message."""
    one = message(Kind.TELEMETRY)
    path = write_recording(tmp_path / "a.mcap", [one])

    with path.open("rb") as file:
        found = {c.topic: (c, r) for _, c, r in make_reader(file).iter_messages()}

    channel, record = found["view/home/cam-7/telemetry"]
    assert channel.message_encoding == "json"
    assert (record.log_time, record.publish_time) == (one.received_ns, one.sent_ns)
    assert json.loads(record.data) == _view(Kind.TELEMETRY)


def test_views_can_be_left_out(tmp_path: Path) -> None:
    """Without views a file has the messages' channels and no others."""
    path = write_recording(tmp_path / "a.mcap", [message(Kind.TELEMETRY)], views=False)

    with path.open("rb") as file:
        topics = [channel.topic for _, channel, _ in make_reader(file).iter_messages()]

    assert topics == ["driftwell/v1/home/cam-7/telemetry"]


def test_selected_is_the_edges_word() -> None:
    """The filter's verdict for a selected image is the same number on both sides."""
    assert int(Verdict.SELECTED) == SELECTED
