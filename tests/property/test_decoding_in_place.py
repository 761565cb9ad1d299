"""A message on a topic, a delta on a state: what does not belong there never escapes."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.array_strategies import adaptable_states, deltas
from tests.golden.fixed_messages import HEAD
from tests.strategies import messages, names

from driftwell.messages import (
    Message,
    apply_delta,
    decode_on_topic,
    encode,
)
from driftwell.messages.codec import TYPE_OF_KIND
from driftwell.messages.errors import (
    ArrayError,
    MalformedError,
    WrongSenderError,
)
from driftwell.messages.topics import Kind, cohort_head_topic, device_topic


@given(messages().filter(lambda message: message.device != "_"), names)
def test_a_message_on_the_topic_of_another_device_is_refused(message: Message, other: str) -> None:
    """Nobody can speak for another device, whatever the message type."""
    kind = next(kind for kind, known in TYPE_OF_KIND.items() if isinstance(message, known))
    if other == message.device:
        other += "-2" if len(other) < 40 else other[:-1]

    with pytest.raises(WrongSenderError) as caught:
        decode_on_topic(f"driftwell/v1/group/{other[:48]}/{kind}", encode(message))

    assert caught.value.code == "wrong-sender"


@given(messages(), st.sampled_from(Kind))
def test_a_message_on_a_topic_of_another_kind_is_refused(message: Message, kind: Kind) -> None:
    """A message belongs on one kind of topic, and on every other it is of the wrong type."""
    if TYPE_OF_KIND.get(kind) is type(message):
        return

    with pytest.raises(MalformedError) as caught:
        decode_on_topic(device_topic("group", "device", kind), encode(message))

    assert caught.value.code == "wrong-type"


def test_the_head_of_a_device_is_not_the_head_of_a_cohort() -> None:
    """A head that names a device is refused on a cohort's topic, and the other way round."""
    with pytest.raises(WrongSenderError):
        decode_on_topic(cohort_head_topic("plant-2", "cam-7"), encode(HEAD))
    for_everyone = encode(msgspec.structs.replace(HEAD, device="_"))
    with pytest.raises(WrongSenderError):
        decode_on_topic(device_topic("plant-2", "cam-7", Kind.HEAD), for_everyone)

    address, _ = decode_on_topic(cohort_head_topic("plant-2", "cam-7"), for_everyone)

    assert address.cohort == "cam-7"


@given(st.text(st.characters()), messages())
def test_an_arbitrary_topic_is_malformed(topic: str, message: Message) -> None:
    """A topic that is not ours is refused, surrogates and all."""
    with pytest.raises(MalformedError):
        decode_on_topic(topic, encode(message))


@given(adaptable_states(), deltas())
def test_a_delta_for_another_state_never_escapes(state: dict[str, Any], delta: Any) -> None:
    """A delta made for other arrays is refused, or fits by its size and is applied."""
    try:
        applied = apply_delta(state, delta)
    except ArrayError:
        return
    assert list(state) == list(applied)
