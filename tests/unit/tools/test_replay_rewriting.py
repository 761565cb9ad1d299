"""Names and sessions: who plays whom, and that nothing else of a message changes."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import strategies, tiny
from tests.golden.fixed_messages import ACK, EVENT, HEAD, SAMPLES, STATE

from driftwell.messages import Message, SampleBatch, State, WireError, decode, encode
from driftwell.messages.ack import Ack
from driftwell.messages.errors import SettingsError
from driftwell.messages.topics import Kind, cohort_head_topic, device_topic, parse_topic
from driftwell.recording.form import RecordedMessage
from driftwell.tools.replay.rewriting import MAX_CLONES, cast_roles, new_session, rewrite

KINDS = {"samples": Kind.SAMPLES, "state": Kind.STATE, "event": Kind.EVENT, "ack": Kind.ACK,
         "telemetry": Kind.TELEMETRY, "head": Kind.HEAD, "update": Kind.UPDATE}  # fmt: skip


def recorded(message: Message, device: str = "") -> RecordedMessage:
    kind = KINDS[str(message.__struct_config__.tag)]
    topic = device_topic("plant", device or message.device, kind)
    return RecordedMessage(topic, encode(message), 5, message.clock_ns)


def test_as_it_was() -> None:
    """Who plays himself with his old sessions says the same bytes, known fields or not."""
    content = msgspec.msgpack.decode(encode(STATE))
    payload = msgspec.msgpack.encode({**content, "later": "minor version"})
    message = RecordedMessage(device_topic("plant", "cam-7", Kind.STATE), payload, 5, 5)

    [outgoing] = rewrite(message, {"cam-7": ("cam-7",)}, salt=None)

    assert (outgoing.topic, outgoing.payload) == (message.topic, payload)
    assert (outgoing.qos, outgoing.retain) == (1, True)


def test_another_device_with_its_own_cohort() -> None:
    """Topic, device and the cohort that was the device's own change; pixels and all else stay."""
    [outgoing] = rewrite(recorded(SAMPLES), {"cam-7": ("front",)}, salt=None)

    batch = decode(outgoing.payload)

    assert outgoing.topic == "driftwell/v1/plant/front/samples"
    assert batch == msgspec.structs.replace(SAMPLES, device="front", cohort="front")


def test_a_shared_cohort_stays() -> None:
    """A cohort that is not the device's own name is shared by whoever plays it."""
    batch = tiny.make_batch(tiny.make_images(2), model="a" * 64, cohort="yard")

    told = rewrite(recorded(batch), {"cam-1": ("a", "b")}, salt="x")

    messages = [decode(one.payload) for one in told]
    assert [m.cohort for m in messages if isinstance(m, SampleBatch)] == ["yard", "yard"]


def test_clones_have_sessions_of_their_own() -> None:
    """Each player has one session for one recorded session, and no two players the same."""
    roles = {"cam-7": ("cam-7-001", "cam-7-002")}
    states = rewrite(recorded(STATE), roles, salt="run/0")
    samples = rewrite(recorded(SAMPLES), roles, salt="run/0")

    sessions = [[decode(one.payload).session for one in told] for told in (states, samples)]

    assert sessions[0] == sessions[1]
    assert len({*sessions[0], STATE.session}) == 3


def test_another_run_or_pass_has_other_sessions() -> None:
    """What salts a session decides it, and so do player and recorded session."""
    keys = [("run/0", "a", "0" * 16), ("run/1", "a", "0" * 16), ("other/0", "a", "0" * 16),
            ("run/0", "b", "0" * 16), ("run/0", "a", "1" * 16)]  # fmt: skip

    sessions = [new_session(*key) for key in keys]

    assert len(set(sessions)) == len(keys)
    assert all(re.fullmatch("[0-9a-f]{16}", session) for session in sessions)
    assert sessions[0] == new_session(*keys[0])


def test_an_ack_follows_the_session_it_answers() -> None:
    """A replayed ack names the session that the replayed samples have."""
    [outgoing] = rewrite(recorded(ACK), {"cam-7": ("front",)}, salt="run/0")

    ack = decode(outgoing.payload)

    assert isinstance(ack, Ack)
    assert ack.of_session == new_session("run/0", "front", ACK.of_session)


def test_a_version_cannot_be_told_to_another() -> None:
    """A head is signed for its device; to the same device it may be told in a new session."""
    with pytest.raises(WireError, match="signed for one device") as caught:
        rewrite(recorded(HEAD), {"cam-7": ("front",)}, salt=None)
    assert caught.value.code == "not-supported"

    [outgoing] = rewrite(recorded(HEAD), {}, salt="run/0")
    assert decode(outgoing.payload) == msgspec.structs.replace(
        HEAD, session=new_session("run/0", "cam-7", HEAD.session)
    )


def test_the_head_of_a_cohort_is_told_once() -> None:
    """It belongs to no device, so clones do not multiply it."""
    head = msgspec.structs.replace(HEAD, device="_")
    topic = cohort_head_topic("plant", "yard")

    told = rewrite(RecordedMessage(topic, encode(head), 5, 5), {"cam-7": ("a", "b")}, salt=None)

    assert [(one.topic, one.payload) for one in told] == [(topic, encode(head))]


def test_predictions_are_told_as_they_are() -> None:
    """They are lines that name nobody; only the topic changes."""
    message = RecordedMessage(device_topic("plant", "cam-7", Kind.PREDICTIONS), b"{}\n", 5, 5)

    told = rewrite(message, {"cam-7": ("a", "b")}, salt="run/0")

    assert [(one.topic[-13:], one.payload) for one in told] == [
        ("a/predictions", b"{}\n"),
        ("b/predictions", b"{}\n"),
    ]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("malformed", RecordedMessage("driftwell/v1/plant/cam-7/samples", b"\x00", 5, 5)),
        ("malformed", RecordedMessage("elsewhere", b"", 5, 5)),
        ("wrong-sender", recorded(EVENT, "cam-8")),
        ("wrong-type", RecordedMessage("driftwell/v1/plant/cam-7/state", encode(EVENT), 5, 5)),
        ("unknown-schema",
         recorded(msgspec.structs.replace(EVENT, schema=0))),
    ],
)  # fmt: skip
def test_what_breaks_its_own_rules_is_refused(code: str, message: RecordedMessage) -> None:
    """Nobody else's mistake is told again, not even by its own author."""
    with pytest.raises(WireError) as caught:
        rewrite(message, {}, salt=None)

    assert caught.value.code == code


@given(message=st.one_of(strategies.sample_batches(), strategies.device_states()))
def test_whatever_is_said_stays(message: SampleBatch | State) -> None:
    """Of any message only device, session and its own cohort change."""
    told = rewrite(recorded(message), {message.device: ("x-1", "x-2")}, salt="s")

    for name, outgoing in zip(("x-1", "x-2"), told, strict=True):
        after = decode(outgoing.payload)
        assert isinstance(after, SampleBatch | State)
        assert after == msgspec.structs.replace(
            message, device=name, session=after.session,
            cohort=name if message.cohort == message.device else message.cohort,
        )  # fmt: skip
        assert parse_topic(outgoing.topic).device == name


def test_roles() -> None:
    """Devices play themselves; renames come before clones; many clones have more digits."""
    assert cast_roles(["a", "b"], ["b=c"], 1) == {"a": ("a",), "b": ("c",)}
    assert cast_roles(["a"], ["a=x"], 2) == {"a": ("x-001", "x-002")}
    assert cast_roles(["a"], [], MAX_CLONES)["a"][0] == "a-00001"
    assert cast_roles(["a", "b"], ["a=b", "b=a"], 1) == {"a": ("b",), "b": ("a",)}


@pytest.mark.parametrize(
    ("text", "devices", "renames", "clones"),
    [
        ("old=new", ["a"], ["a"], 1),
        ("no device 'z' is replayed; there are: a", ["a"], ["z=b"], 1),
        ("a is renamed twice", ["a"], ["a=b", "a=c"], 1),
        ("not a valid name", ["a"], ["a=B"], 1),
        ("not a valid name", ["a"], ["a="], 1),
        ("a and b would both be 'b'", ["a", "b"], ["a=b"], 1),
        ("a and a-001 would both be", ["a", "a-001"], ["a-001=a"], 1),
        ("--clone 0 is not possible; use 1 to", ["a"], [], 0),
        ("1 to 48", ["a" * 45], [], 2),
    ],
)
def test_roles_that_cannot_be(
    text: str, devices: list[str], renames: list[str], clones: int
) -> None:
    """What would give two devices a name, or one no valid name, is said before anything is sent."""
    with pytest.raises(SettingsError, match=re.escape(text)):
        cast_roles(devices, renames, clones)
