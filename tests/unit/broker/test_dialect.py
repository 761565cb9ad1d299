"""Which version of MQTT is spoken next."""

from driftwell.broker.dialect import Dialect


def test_mqtt_5_is_tried_first() -> None:
    """It is the one that tells what was refused."""
    assert Dialect().is_v5


def test_a_refusal_is_believed_at_any_time() -> None:
    """Even by a broker that spoke the version yesterday: it may be another one now."""
    assert not Dialect().refused().is_v5
    assert not Dialect().accepted().refused().is_v5
    assert Dialect().refused().refused().is_v5


def test_silence_is_no_answer_from_a_known_broker() -> None:
    """It counts only as long as no version has been accepted."""
    assert not Dialect().unanswered().is_v5
    assert Dialect().unanswered().unanswered().is_v5
    assert Dialect().accepted().unanswered() == Dialect().accepted()
    older = Dialect().refused().accepted()
    assert older.unanswered() == older
